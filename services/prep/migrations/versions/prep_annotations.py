"""Tags and notes of datasets."""

import sqlalchemy as sa
from alembic import op

revision = "prep_annotations"
down_revision = "prep_segments"
branch_labels = None
depends_on = None


def upgrade() -> None:
    op.create_table(
        "annotation",
        sa.Column("project", sa.String, primary_key=True),
        sa.Column("number", sa.Integer, primary_key=True, autoincrement=False),
        sa.Column("sequence", sa.Integer, nullable=False),
        sa.Column("note", sa.Text, nullable=False),
        sa.Column("by", sa.String, nullable=False),
        sa.Column("at", sa.DateTime(timezone=True), nullable=False),
    )
    op.create_table(
        "dataset_tag",
        sa.Column("project", sa.String, primary_key=True),
        sa.Column("number", sa.Integer, primary_key=True, autoincrement=False),
        sa.Column("tag", sa.String, primary_key=True),
    )


def downgrade() -> None:
    """Tags and notes are lost; their events stay in the log."""
    op.drop_table("dataset_tag")
    op.drop_table("annotation")
