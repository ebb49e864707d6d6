"""Predictions by their name. Those that were kept before lie under other keys and are never found again, so they go."""

import sqlalchemy as sa
from alembic import op

revision = "evaluator_0002"
down_revision = "evaluator_0001"
branch_labels = None
depends_on = None


def upgrade() -> None:
    op.drop_table("answer_sheet")
    _create("predictions")


def downgrade() -> None:
    op.drop_table("predictions")
    _create("answer_sheet")


def _create(name: str) -> None:
    op.create_table(
        name,
        sa.Column("model", sa.String, primary_key=True),
        sa.Column("settings", sa.String, primary_key=True),
        sa.Column("file", sa.JSON, nullable=False),
    )
