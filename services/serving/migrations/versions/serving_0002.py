"""The registry's number of a promotion, the indexes of every list and loop, and a counter of what changed."""

import sqlalchemy as sa
from alembic import op

revision = "serving_0002"
down_revision = "serving_0001"
branch_labels = None
depends_on = None

LIVE = sa.text("status <> 'removed'")


def upgrade() -> None:
    op.add_column("deployment", sa.Column("promotion", sa.Integer))
    op.create_index("deployment_of", "deployment", ["project", "sequence"])
    op.create_index("deployment_newest", "deployment", ["promoted_at", "project", "version"])
    op.create_index("deployment_newest_of", "deployment", ["project", "promoted_at", "version"])
    op.create_index("deployment_live", "deployment", ["project", "version"], sqlite_where=LIVE, postgresql_where=LIVE)
    counter = op.create_table(
        "change_counter",
        sa.Column("id", sa.Integer, primary_key=True),
        sa.Column("number", sa.BigInteger, nullable=False),
    )
    op.bulk_insert(counter, [{"id": 1, "number": 0}])


def downgrade() -> None:
    op.drop_table("change_counter")
    for index in ("deployment_live", "deployment_newest_of", "deployment_newest", "deployment_of"):
        op.drop_index(index, "deployment")
    op.drop_column("deployment", "promotion")
