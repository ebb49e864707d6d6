"""The conversation of a request, where its client named one."""

import sqlalchemy as sa
from alembic import op

revision = "feedback_conversations"
down_revision = "feedback_examples"
branch_labels = None
depends_on = None


def upgrade() -> None:
    op.add_column("request", sa.Column("project", sa.String))
    op.add_column("request", sa.Column("conversation", sa.String))
    columns = ["project", "conversation", "completed_at", "request_id"]
    op.create_index("request_of_conversation", "request", columns)


def downgrade() -> None:
    op.drop_index("request_of_conversation", "request")
    op.drop_column("request", "conversation")
    op.drop_column("request", "project")
