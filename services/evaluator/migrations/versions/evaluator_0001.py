"""The evaluator's first tables."""

import sqlalchemy as sa
from alembic import op

revision = "evaluator_0001"
down_revision = None
branch_labels = ("evaluator",)
depends_on = None


def upgrade() -> None:
    op.create_table(
        "evaluation",
        sa.Column("evaluation_id", sa.String, primary_key=True),
        sa.Column("project", sa.String, nullable=False),
        sa.Column("created_at", sa.DateTime(timezone=True), nullable=False),
        sa.Column("document", sa.JSON, nullable=False),
    )
    op.create_index("evaluation_newest", "evaluation", ["created_at", "evaluation_id"])
    op.create_index("ix_evaluation_project", "evaluation", ["project"])
    op.create_table(
        "champion",
        sa.Column("project", sa.String, primary_key=True),
        sa.Column("promotion", sa.JSON, nullable=False),
    )
    op.create_table(
        "answer_sheet",
        sa.Column("model", sa.String, primary_key=True),
        sa.Column("settings", sa.String, primary_key=True),
        sa.Column("file", sa.JSON, nullable=False),
    )


def downgrade() -> None:
    for table in ("answer_sheet", "champion", "evaluation"):
        op.drop_table(table)
