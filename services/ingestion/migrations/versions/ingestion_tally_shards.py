"""Tallies in shards, so that instances that count at a time do not wait for each other."""

import sqlalchemy as sa
from alembic import op

revision = "ingestion_tally_shards"
down_revision = "ingestion_0001"
branch_labels = None
depends_on = None

COLUMNS = ("project", "outcome")
COUNTED = "SELECT project, outcome, 0, n FROM tally"
SUMMED = "SELECT project, outcome, sum(n) FROM tally GROUP BY project, outcome"


def upgrade() -> None:
    _rebuild([sa.Column("shard", sa.BigInteger, primary_key=True, autoincrement=False)], COUNTED)


def downgrade() -> None:
    _rebuild([], SUMMED)


def _rebuild(shard: list[sa.Column[int]], rows: str) -> None:
    keys = [sa.Column(name, sa.String, primary_key=True) for name in COLUMNS]
    op.create_table("tally_new", *keys, *shard, sa.Column("n", sa.BigInteger, nullable=False))
    op.execute(f"INSERT INTO tally_new {rows}")
    op.drop_table("tally")
    op.rename_table("tally_new", "tally")
