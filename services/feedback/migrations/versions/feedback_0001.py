"""Feedback's first tables."""

import sqlalchemy as sa
from alembic import op

revision = "feedback_0001"
down_revision = None
branch_labels = ("feedback",)
depends_on = None

MOMENT = sa.DateTime(timezone=True)


def upgrade() -> None:
    op.create_table(
        "request",
        sa.Column("request_id", sa.String, primary_key=True),
        sa.Column("completed_at", MOMENT, nullable=False),
        sa.Column("body", sa.JSON, nullable=False),
    )
    op.create_index("ix_request_completed_at", "request", ["completed_at"])
    op.create_table(
        "signal",
        sa.Column("signal_id", sa.String, primary_key=True),
        sa.Column("request_id", sa.String, nullable=False),
        sa.Column("received_at", MOMENT, nullable=False),
        sa.Column("status", sa.String, nullable=False),
        sa.Column("project", sa.String),
        sa.Column("record_id", sa.String),
        sa.Column("reason", sa.String),
        sa.Column("detail", sa.String),
        sa.Column("body", sa.JSON, nullable=False),
    )
    op.create_index("ix_signal_request_id", "signal", ["request_id"])
    op.create_index("signal_newest", "signal", ["received_at", "signal_id"])
    op.create_index("signal_waiting", "signal", ["status", "received_at"])


def downgrade() -> None:
    op.drop_table("signal")
    op.drop_table("request")
