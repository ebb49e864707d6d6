"""Prep's first tables."""

import sqlalchemy as sa
from alembic import op

revision = "prep_0001"
down_revision = None
branch_labels = ("prep",)
depends_on = "chassis_0001"

MOMENT = sa.DateTime(timezone=True)


def upgrade() -> None:
    op.create_table(
        "record",
        sa.Column("project", sa.String, primary_key=True),
        sa.Column("record_id", sa.String, primary_key=True),
        sa.Column("revision", sa.Integer, nullable=False),
        sa.Column("format", sa.String, nullable=False),
        sa.Column("record", sa.Text, nullable=False),
        sa.Column("digest", sa.String, nullable=False),
        sa.Column("tags", sa.Text, nullable=False),
        sa.Column("subject", sa.String),
        sa.Column("accepted_at", MOMENT, nullable=False),
        sa.Column("sequence", sa.BigInteger, nullable=False),
    )
    op.create_index("record_sequence", "record", ["project", "sequence"])
    op.create_table(
        "progress",
        sa.Column("project", sa.String, primary_key=True),
        sa.Column("sequence", sa.BigInteger, nullable=False),
        sa.Column("seen", sa.BigInteger, nullable=False),
        sa.Column("seen_at", MOMENT),
        sa.Column("frozen", sa.BigInteger, nullable=False),
        sa.Column("tried", sa.BigInteger, nullable=False),
        sa.Column("freezes", sa.Integer, nullable=False),
        sa.Column("job", sa.String),
        sa.Column("announced", sa.String),
        sa.Column("failure", sa.JSON),
    )
    op.create_table(
        "dataset",
        sa.Column("project", sa.String, primary_key=True),
        sa.Column("number", sa.Integer, primary_key=True),
        sa.Column("version", sa.String, nullable=False),
        sa.Column("project_revision", sa.String, nullable=False),
        sa.Column("counts", sa.JSON, nullable=False),
        sa.Column("drops", sa.JSON, nullable=False),
        sa.Column("cause", sa.String, nullable=False),
        sa.Column("frozen_at", MOMENT, nullable=False),
        sa.Column("files", sa.JSON, nullable=False),
        sa.Column("profile", sa.JSON, nullable=False),
        sa.Column("report", sa.JSON, nullable=False),
    )
    op.create_index("dataset_frozen_at", "dataset", ["frozen_at", "project", "number"])


def downgrade() -> None:
    for table in ("dataset", "progress", "record"):
        op.drop_table(table)
