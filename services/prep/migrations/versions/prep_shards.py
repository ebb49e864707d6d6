"""Changes numbered in shards, so that instances that keep a project's records at a time do not wait for each other."""

import sqlalchemy as sa
from alembic import op

revision = "prep_shards"
down_revision = "prep_0001"
branch_labels = None
depends_on = None

NUMBERED = ("record_sequence", "record")


def upgrade() -> None:
    op.create_table(
        "shard",
        sa.Column("project", sa.String, primary_key=True),
        sa.Column("shard", sa.BigInteger, primary_key=True, autoincrement=False),
        sa.Column("sequence", sa.BigInteger, nullable=False),
    )
    op.execute("INSERT INTO shard SELECT project, 0, sequence FROM progress WHERE sequence > 0")
    op.add_column("record", sa.Column("shard", sa.BigInteger, nullable=False, server_default="0"))
    op.drop_index(*NUMBERED)
    op.create_index(*NUMBERED, ["project", "shard", "sequence"])
    _positions()
    op.drop_column("progress", "frozen")
    op.drop_column("progress", "sequence")


def _positions() -> None:
    for name in ("frozen_positions", "tried_positions"):
        op.add_column("progress", sa.Column(name, sa.JSON, nullable=False, server_default="{}"))
    # A freeze that succeeded counts as tried too, though `tried` alone was not always brought up to it.
    op.execute("UPDATE progress SET tried = frozen WHERE frozen > tried")
    moved = sa.text("UPDATE progress SET frozen_positions = :frozen, tried_positions = :tried WHERE project = :project")
    kind = sa.JSON()
    moved = moved.bindparams(sa.bindparam("frozen", type_=kind), sa.bindparam("tried", type_=kind))
    connection = op.get_bind()
    for project, frozen, tried in connection.execute(sa.text("SELECT project, frozen, tried FROM progress")).all():
        values = {"frozen": {"0": frozen} if frozen else {}, "tried": {"0": tried} if tried else {}}
        connection.execute(moved, {"project": project, **values})


def downgrade() -> None:
    """One shard again: all is counted anew, and each project's next freeze takes all of its records as new."""
    op.drop_index(*NUMBERED)
    op.drop_column("record", "shard")
    op.create_index(*NUMBERED, ["project", "sequence"])
    for name in ("sequence", "frozen"):
        op.add_column("progress", sa.Column(name, sa.BigInteger, nullable=False, server_default="0"))
    newest = "SELECT max(sequence) FROM record WHERE record.project = progress.project"
    op.execute(f"UPDATE progress SET tried = 0, seen = 0, sequence = coalesce(({newest}), 0)")  # noqa: S608
    for name in ("frozen_positions", "tried_positions"):
        op.drop_column("progress", name)
    op.drop_table("shard")
