"""A project's newest runs, found without sorting all of them."""

from alembic import op

revision = "trainer_0002"
down_revision = "trainer_0001"
branch_labels = None
depends_on = None


def upgrade() -> None:
    op.create_index("run_of_project", "run", ["project", "created_at", "run_id"])
    op.drop_index("ix_run_project", "run")


def downgrade() -> None:
    op.create_index("ix_run_project", "run", ["project"])
    op.drop_index("run_of_project", "run")
