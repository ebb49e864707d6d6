"""Each project's champion, from which preference tuning goes on."""

import sqlalchemy as sa
from alembic import op

revision = "trainer_0003"
down_revision = "trainer_0002"
branch_labels = None
depends_on = None


def upgrade() -> None:
    op.create_table(
        "champion",
        sa.Column("project", sa.String(), nullable=False),
        sa.Column("promotion", sa.JSON(), nullable=False),
        sa.PrimaryKeyConstraint("project"),
    )


def downgrade() -> None:
    op.drop_table("champion")
