"""The jobs that are not over, and those with a checkpoint, found without reading the many that ended."""

import sqlalchemy as sa
from alembic import op

revision = "chassis_job_open"
down_revision = "chassis_project_newest"
branch_labels = None
depends_on = None

OPEN = sa.text("status IN ('queued', 'running')")
KEPT = sa.text("checkpoint IS NOT NULL")


def upgrade() -> None:
    op.create_index("job_open", "job", ["status", "kind"], sqlite_where=OPEN, postgresql_where=OPEN)
    op.create_index("job_checkpoint", "job", ["finished_at"], sqlite_where=KEPT, postgresql_where=KEPT)


def downgrade() -> None:
    op.drop_index("job_checkpoint", "job")
    op.drop_index("job_open", "job")
