"""The figures of each answer: for a teacher's budget and for the report."""

import sqlalchemy as sa
from alembic import op

revision = "serving_0004"
down_revision = "serving_0003"
branch_labels = None
depends_on = None


def upgrade() -> None:
    op.create_table(
        "answer",
        sa.Column("request_id", sa.String, primary_key=True),
        sa.Column("project", sa.String, nullable=False),
        sa.Column("at", sa.DateTime(timezone=True), nullable=False),
        sa.Column("answerer", sa.String, nullable=False),
        sa.Column("teacher", sa.Boolean, nullable=False),
        sa.Column("status", sa.String, nullable=False),
        sa.Column("prompt_tokens", sa.Integer, nullable=False),
        sa.Column("completion_tokens", sa.Integer, nullable=False),
        sa.Column("seconds", sa.Float, nullable=False),
        sa.Column("first_token", sa.Float),
        sa.Column("cost", sa.Float),
        sa.Column("currency", sa.String),
    )
    op.create_index("answer_of", "answer", ["project", "at"])
    op.create_index("ix_answer_at", "answer", ["at"])


def downgrade() -> None:
    op.drop_table("answer")
