"""How much work of each kind a project had, so that projects take turns."""

import sqlalchemy as sa
from alembic import op

revision = "chassis_fair_share"
down_revision = "chassis_job_retries"
branch_labels = None
depends_on = None


def upgrade() -> None:
    op.create_table(
        "fair_share",
        sa.Column("kind", sa.String, primary_key=True),
        sa.Column("project", sa.String, primary_key=True),
        sa.Column("priority", sa.String, nullable=False),
        sa.Column("virtual_time", sa.Float, nullable=False),
        sa.Column("virtual_start", sa.Float, nullable=False),
    )
    op.create_index("fair_share_latest", "fair_share", ["kind", "virtual_start"])
    op.execute("UPDATE job SET project = '' WHERE project IS NULL")
    op.execute(
        "INSERT INTO fair_share (kind, project, priority, virtual_time, virtual_start)"
        " SELECT DISTINCT kind, project, 'normal', 0.0, 0.0 FROM job"
    )
    op.add_column("job", sa.Column("charged_at", sa.DateTime(timezone=True), nullable=True))
    op.create_index("job_turn", "job", ["kind", "project", "status", "created_at", "id"])


def downgrade() -> None:
    op.drop_index("job_turn", "job")
    op.drop_column("job", "charged_at")
    op.drop_table("fair_share")
