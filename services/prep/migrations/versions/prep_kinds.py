"""Rows of a dataset by what they are good for."""

import sqlalchemy as sa
from alembic import op

revision = "prep_kinds"
down_revision = "prep_annotations"
branch_labels = None
depends_on = None


def upgrade() -> None:
    op.add_column("dataset", sa.Column("kinds", sa.JSON))


def downgrade() -> None:
    op.drop_column("dataset", "kinds")
