"""The versions of prompts by number, and which of them a promotion names."""

import sqlalchemy as sa
from alembic import op

revision = "serving_0003"
down_revision = "serving_0002"
branch_labels = None
depends_on = None


def upgrade() -> None:
    op.add_column("deployment", sa.Column("prompt_version", sa.Integer))
    op.create_table(
        "prompt",
        sa.Column("project", sa.String, primary_key=True),
        sa.Column("number", sa.Integer, primary_key=True),
        sa.Column("prompt", sa.JSON, nullable=False),
    )


def downgrade() -> None:
    op.drop_table("prompt")
    op.drop_column("deployment", "prompt_version")
