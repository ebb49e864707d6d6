"""What a message held that was taken, so that another one under its id is told from a redelivery."""

import sqlalchemy as sa
from alembic import op

revision = "chassis_inbox_digest"
down_revision = "chassis_0002"
branch_labels = None
depends_on = None


def upgrade() -> None:
    op.add_column("inbox", sa.Column("digest", sa.BigInteger, nullable=True))


def downgrade() -> None:
    op.drop_column("inbox", "digest")
