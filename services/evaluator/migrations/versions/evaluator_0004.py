"""Requests to judges: the verdicts that they gave, and what a day has cost."""

import sqlalchemy as sa
from alembic import op

revision = "evaluator_0004"
down_revision = "evaluator_0003"
branch_labels = None
depends_on = None


def upgrade() -> None:
    op.create_table(
        "judge_call",
        sa.Column("number", sa.Integer, primary_key=True),
        sa.Column("key", sa.String, nullable=False),
        sa.Column("project", sa.String, nullable=False),
        sa.Column("asked_at", sa.DateTime(timezone=True), nullable=False),
        sa.Column("win", sa.Float, nullable=True),
        sa.Column("prompt_tokens", sa.Integer, nullable=False),
        sa.Column("completion_tokens", sa.Integer, nullable=False),
        sa.Column("cost", sa.Float, nullable=False),
    )
    op.create_index("judge_call_key", "judge_call", ["key"])
    op.create_index("judge_call_day", "judge_call", ["project", "asked_at"])
    op.create_index("judge_call_asked", "judge_call", ["asked_at"])


def downgrade() -> None:
    op.drop_table("judge_call")
