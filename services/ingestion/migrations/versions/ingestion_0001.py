"""Ingestion's first tables."""

import sqlalchemy as sa
from alembic import op

revision = "ingestion_0001"
down_revision = None
branch_labels = ("ingestion",)
depends_on = "chassis_0001"

NUMBER = sa.BigInteger().with_variant(sa.Integer, "sqlite")
MOMENT = sa.DateTime(timezone=True)


def upgrade() -> None:
    op.create_table(
        "record",
        sa.Column("project", sa.String, primary_key=True),
        sa.Column("record_id", sa.String, primary_key=True),
        sa.Column("revision", sa.Integer, nullable=False),
        sa.Column("fingerprint", sa.String, nullable=False),
        sqlite_with_rowid=False,
    )
    op.create_table(
        "tally",
        sa.Column("project", sa.String, primary_key=True),
        sa.Column("outcome", sa.String, primary_key=True),
        sa.Column("n", sa.BigInteger, nullable=False),
    )
    op.create_table(
        "waiting",
        sa.Column("number", NUMBER, primary_key=True, autoincrement=True),
        sa.Column("project", sa.String, nullable=False),
        sa.Column("submitted", sa.Text, nullable=False),
        sa.Column("source", sa.String, nullable=False),
        sa.Column("source_id", sa.String, nullable=False),
        sa.Column("refuse_at", MOMENT),
        sqlite_autoincrement=True,
    )
    op.create_index("waiting_project", "waiting", ["project", "number"])


def downgrade() -> None:
    for table in ("waiting", "tally", "record"):
        op.drop_table(table)
