"""What each record is good for, so that a project's records are counted by it."""

import sqlalchemy as sa
from alembic import op

revision = "prep_kind_of_record"
down_revision = "prep_kinds"
branch_labels = None
depends_on = None


def upgrade() -> None:
    """Those that are there have their format: which of them call tools or are prompts alone is not read again."""
    op.add_column("record", sa.Column("kind", sa.String, nullable=False, server_default=""))
    op.execute("UPDATE record SET kind = format")
    op.create_index("record_kind", "record", ["project", "kind"])


def downgrade() -> None:
    op.drop_index("record_kind", "record")
    op.drop_column("record", "kind")
