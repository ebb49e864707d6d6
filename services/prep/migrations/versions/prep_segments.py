"""Records' contents in segments of the artifact store; the row that is left says which."""

import sqlalchemy as sa
from alembic import op

revision = "prep_segments"
down_revision = "prep_sent"
branch_labels = None
depends_on = None

NUMBERED = ("record_sequence", "record", ["project", "shard", "sequence"])


def upgrade() -> None:
    op.create_table(
        "segment",
        sa.Column("project", sa.String, primary_key=True),
        sa.Column("number", sa.Integer, primary_key=True, autoincrement=False),
        sa.Column("artifact", sa.JSON, nullable=False),
        sa.Column("rows", sa.BigInteger, nullable=False),
        sa.Column("size", sa.BigInteger, nullable=False),
    )
    op.add_column("record", sa.Column("segment", sa.Integer))
    op.add_column("dataset", sa.Column("segments", sa.JSON))
    op.drop_index(*NUMBERED[:2])
    for name, columns, where in (
        ("record_tail", ["project", "shard", "sequence"], sa.text("segment IS NULL")),
        ("record_segment", ["project", "segment"], sa.text("segment IS NOT NULL")),
    ):
        op.create_index(name, "record", columns, sqlite_where=where, postgresql_where=where)


def downgrade() -> None:
    """Refused while a segment holds what would be lost.

    Raises:
        RuntimeError: it holds some.
    """
    if op.get_bind().execute(sa.text("SELECT count(*) FROM segment")).scalar():
        raise RuntimeError("records lie in segments, which the version before cannot read; they would be lost")
    op.drop_index("record_segment", "record")
    op.drop_index("record_tail", "record")
    op.create_index(*NUMBERED)
    op.drop_column("dataset", "segments")
    op.drop_column("record", "segment")
    op.drop_table("segment")
