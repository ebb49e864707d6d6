"""Whether a project was taken out of service, and after which promotion."""

import sqlalchemy as sa
from alembic import op

revision = "chassis_retired"
down_revision = "chassis_project_sequence"
branch_labels = None
depends_on = None


def upgrade() -> None:
    op.add_column("project_revision", sa.Column("retired_after", sa.Integer, nullable=True))


def downgrade() -> None:
    op.drop_column("project_revision", "retired_after")
