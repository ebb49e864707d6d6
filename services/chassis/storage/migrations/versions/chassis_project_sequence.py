"""Definitions of a project in the order of their sequence; revisions that an event brought have no time of definition."""

import sqlalchemy as sa
from alembic import op

revision = "chassis_project_sequence"
down_revision = "chassis_pruning"
branch_labels = None
depends_on = None


def upgrade() -> None:
    with op.batch_alter_table("project_revision") as table:
        table.add_column(sa.Column("sequence", sa.BigInteger, nullable=True))
        table.alter_column("defined_at", existing_type=sa.DateTime(timezone=True), nullable=True)


def downgrade() -> None:
    op.execute("DELETE FROM project_revision WHERE defined_at IS NULL")
    with op.batch_alter_table("project_revision") as table:
        table.alter_column("defined_at", existing_type=sa.DateTime(timezone=True), nullable=False)
        table.drop_column("sequence")
