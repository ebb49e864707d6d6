"""By which scripts the tables were last brought up to date, so that a start need not load Alembic to find out."""

import sqlalchemy as sa
from alembic import op

revision = "chassis_0002"
down_revision = "chassis_0001"
branch_labels = None
depends_on = None


def upgrade() -> None:
    op.create_table("migrated", sa.Column("scripts", sa.String, primary_key=True))


def downgrade() -> None:
    op.drop_table("migrated")
