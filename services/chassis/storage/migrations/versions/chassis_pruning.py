"""The oldest messages taken and the oldest jobs that are over, found without reading the others."""

from alembic import op

revision = "chassis_pruning"
down_revision = "chassis_idempotency_key"
branch_labels = None
depends_on = None


def upgrade() -> None:
    op.create_index("inbox_taken", "inbox", ["taken_at"])
    op.create_index("job_finished", "job", ["finished_at"])


def downgrade() -> None:
    op.drop_index("job_finished", "job")
    op.drop_index("inbox_taken", "inbox")
