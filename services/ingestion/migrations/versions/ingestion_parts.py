"""Parts of calls that log events told of, until their rest came."""

import sqlalchemy as sa
from alembic import op

revision = "ingestion_parts"
down_revision = "ingestion_tally_shards"
branch_labels = None
depends_on = None


def upgrade() -> None:
    op.create_table(
        "part",
        sa.Column("project", sa.String, primary_key=True),
        sa.Column("call", sa.String, primary_key=True),
        sa.Column("identity", sa.String, primary_key=True),
        sa.Column("told", sa.Text, nullable=False),
        sa.Column("size", sa.Integer, nullable=False),
        sa.Column("log_records", sa.Integer, nullable=False),
        sa.Column("answers", sa.Boolean, nullable=False),
        sa.Column("settled", sa.Boolean, nullable=False),
        sa.Column("received_at", sa.DateTime(timezone=True), nullable=False),
    )
    op.create_index("part_received", "part", ["received_at"])
    op.create_index("part_size", "part", ["project", "size"])


def downgrade() -> None:
    op.drop_table("part")
