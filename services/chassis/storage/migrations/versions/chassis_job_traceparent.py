"""The trace that a job belongs to."""

import sqlalchemy as sa
from alembic import op

revision = "chassis_job_traceparent"
down_revision = "chassis_job_open"
branch_labels = None
depends_on = None


def upgrade() -> None:
    op.add_column("job", sa.Column("traceparent", sa.String, nullable=True))


def downgrade() -> None:
    op.drop_column("job", "traceparent")
