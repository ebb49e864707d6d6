"""The registry's first tables."""

import sqlalchemy as sa
from alembic import op

revision = "registry_0001"
down_revision = None
branch_labels = ("registry",)
depends_on = None

NUMBER = sa.BigInteger().with_variant(sa.Integer, "sqlite")
MOMENT = sa.DateTime(timezone=True)


def upgrade() -> None:
    op.create_table("model", sa.Column("name", sa.String, primary_key=True))
    op.create_table(
        "model_version",
        sa.Column("name", sa.String, primary_key=True),
        sa.Column("version", sa.Integer, primary_key=True),
        sa.Column("run_id", sa.String, nullable=False, unique=True),
        sa.Column("stage", sa.String, nullable=False),
        sa.Column("detail", sa.Text, nullable=False),
        sa.Column("failed", sa.JSON, nullable=False),
        sa.Column("trained", sa.JSON, nullable=False),
        sa.Column("scored", sa.JSON),
        sa.Column("created_at", MOMENT, nullable=False),
    )
    op.create_index("model_version_newest", "model_version", ["created_at", "run_id"])
    # Two versions of a model in production at once would make "the champion" mean nothing.
    op.create_index(
        "model_version_production",
        "model_version",
        ["name"],
        unique=True,
        sqlite_where=sa.text("stage = 'production'"),
        postgresql_where=sa.text("stage = 'production'"),
    )
    op.create_table(
        "transition",
        sa.Column("id", NUMBER, primary_key=True, autoincrement=True),
        sa.Column("name", sa.String, nullable=False),
        sa.Column("version", sa.Integer, nullable=False),
        sa.Column("before", sa.String),
        sa.Column("after", sa.String, nullable=False),
        sa.Column("cause", sa.String, nullable=False),
        sa.Column("by", sa.String, nullable=False),
        sa.Column("reason", sa.Text, nullable=False),
        sa.Column("at", MOMENT, nullable=False),
        sa.Column("event", sa.String),
        sqlite_autoincrement=True,
    )
    op.create_index("transition_of", "transition", ["name", "id"])


def downgrade() -> None:
    for table in ("transition", "model_version", "model"):
        op.drop_table(table)
