"""Each version's decision with its figures, and what comparisons have spent of a model's held-out rows; both from now on."""

import sqlalchemy as sa
from alembic import op

revision = "registry_0004"
down_revision = "registry_0003"
branch_labels = None
depends_on = None


def upgrade() -> None:
    op.add_column("model_version", sa.Column("decision", sa.JSON))
    op.add_column("model", sa.Column("spent", sa.JSON))


def downgrade() -> None:
    op.drop_column("model", "spent")
    op.drop_column("model_version", "decision")
