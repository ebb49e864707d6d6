"""A record as it came beside what it became."""

import sqlalchemy as sa
from alembic import op

revision = "prep_sent"
down_revision = "prep_dataset_of_project"
branch_labels = None
depends_on = None


def upgrade() -> None:
    op.add_column("record", sa.Column("shape", sa.String()))
    op.add_column("record", sa.Column("sent", sa.Text()))


def downgrade() -> None:
    op.drop_column("record", "sent")
    op.drop_column("record", "shape")
