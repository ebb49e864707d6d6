"""Training examples that signals make, and opinions on answers."""

import sqlalchemy as sa
from alembic import op

revision = "feedback_examples"
down_revision = "feedback_0002"
branch_labels = None
depends_on = None

MOMENT = sa.DateTime(timezone=True)


def upgrade() -> None:
    op.create_table(
        "example",
        sa.Column("example_id", sa.String, primary_key=True),
        sa.Column("project", sa.String, nullable=False),
        sa.Column("source", sa.String, nullable=False),
        sa.Column("status", sa.String, nullable=False),
        sa.Column("reason", sa.String),
        sa.Column("detail", sa.Text),
        sa.Column("until", MOMENT),
        sa.Column("by", sa.String, nullable=False),
        sa.Column("note", sa.Text, nullable=False),
        sa.Column("request_id", sa.String, nullable=False),
        sa.Column("user", sa.String),
        sa.Column("question", sa.String, nullable=False),
        sa.Column("sketch", sa.Text, nullable=False),
        sa.Column("said_at", MOMENT, nullable=False),
        sa.Column("body", sa.JSON, nullable=False),
    )
    op.create_index("example_queue", "example", ["status", "said_at", "example_id"])
    op.create_index("example_of_project", "example", ["project", "status", "said_at", "example_id"])
    op.create_index("example_of_source", "example", ["project", "source", "said_at"])
    op.create_index("example_of_user", "example", ["project", "source", "user", "said_at"])
    op.create_index("example_on_question", "example", ["project", "question", "status"])
    op.create_index("example_of_request", "example", ["request_id", "example_id"])
    op.create_index("example_due", "example", ["status", "until"])
    op.create_index("example_oldest", "example", ["said_at"])
    op.create_table(
        "opinion",
        sa.Column("about", sa.String, primary_key=True),
        sa.Column("answer", sa.String, primary_key=True),
        sa.Column("project", sa.String, nullable=False),
        sa.Column("question", sa.String, nullable=False),
        sa.Column("is_good", sa.Boolean, nullable=False),
        sa.Column("user", sa.String, nullable=False),
        sa.Column("said_at", MOMENT, nullable=False),
    )
    op.create_index("ix_opinion_said_at", "opinion", ["said_at"])
    op.create_index("opinion_on_question", "opinion", ["project", "question", "answer", "is_good", "user"])
    op.create_index("opinion_of_user", "opinion", ["project", "user", "answer", "is_good", "question"])


def downgrade() -> None:
    op.drop_table("opinion")
    op.drop_table("example")
