"""A project's newest datasets, found without sorting all of them."""

from alembic import op

revision = "prep_dataset_of_project"
down_revision = "prep_shards"
branch_labels = None
depends_on = None


def upgrade() -> None:
    op.create_index("dataset_of_project", "dataset", ["project", "frozen_at", "number"])


def downgrade() -> None:
    op.drop_index("dataset_of_project", "dataset")
