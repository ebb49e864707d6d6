"""A project's newest definition, found without reading its older ones; 0 is the sequence of those that have none."""

import sqlalchemy as sa
from alembic import op

revision = "chassis_project_newest"
down_revision = "chassis_retired"
branch_labels = None
depends_on = None


def upgrade() -> None:
    op.execute(sa.text("UPDATE project_revision SET sequence = 0 WHERE sequence IS NULL"))
    op.create_index("project_revision_newest", "project_revision", ["project", "sequence", "defined_at"])


def downgrade() -> None:
    op.drop_index("project_revision_newest", "project_revision")
