"""When a job is tried again, how often it failed or lost its worker since its last checkpoint, and where that lies."""

import sqlalchemy as sa
from alembic import op

revision = "chassis_job_retries"
down_revision = "chassis_inbox_digest"
branch_labels = None
depends_on = None

COLUMNS = ("retry_at", "failures", "worker_losses", "checkpoint")


def upgrade() -> None:
    op.add_column("job", sa.Column("retry_at", sa.DateTime(timezone=True), nullable=True))
    op.add_column("job", sa.Column("failures", sa.Integer, nullable=False, server_default="0"))
    op.add_column("job", sa.Column("worker_losses", sa.Integer, nullable=False, server_default="0"))
    op.add_column("job", sa.Column("checkpoint", sa.JSON, nullable=True))


def downgrade() -> None:
    for column in COLUMNS:
        op.drop_column("job", column)
