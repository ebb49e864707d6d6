"""The trainer's first tables."""

import sqlalchemy as sa
from alembic import op

revision = "trainer_0001"
down_revision = None
branch_labels = ("trainer",)
depends_on = "chassis_0001"


def upgrade() -> None:
    op.create_table(
        "run",
        sa.Column("run_id", sa.String, primary_key=True),
        sa.Column("project", sa.String, nullable=False),
        sa.Column("created_at", sa.DateTime(timezone=True), nullable=False),
        sa.Column("document", sa.JSON, nullable=False),
    )
    op.create_index("run_newest", "run", ["created_at", "run_id"])
    op.create_index("ix_run_project", "run", ["project"])


def downgrade() -> None:
    op.drop_table("run")
