"""The chassis' first tables."""

import sqlalchemy as sa
from alembic import op

revision = "chassis_0001"
down_revision = None
branch_labels = ("chassis",)
depends_on = None

NUMBER = sa.BigInteger().with_variant(sa.Integer, "sqlite")
MOMENT = sa.DateTime(timezone=True)


def upgrade() -> None:
    op.create_table(
        "inbox",
        sa.Column("consumer", sa.String, primary_key=True),
        sa.Column("id", sa.String, primary_key=True),
        sa.Column("source", sa.String, primary_key=True),
        sa.Column("taken_at", MOMENT, nullable=False),
        sqlite_with_rowid=False,
    )
    op.create_table(
        "outbox",
        sa.Column("id", NUMBER, primary_key=True, autoincrement=True),
        sa.Column("topic", sa.String, nullable=False),
        sa.Column("key", sa.LargeBinary),
        sa.Column("value", sa.LargeBinary),
        sa.Column("headers", sa.Text, nullable=False),
        sa.Column("status", sa.String, nullable=False),
        sa.Column("reason", sa.String),
        sa.Column("created_at", MOMENT, nullable=False),
        sqlite_autoincrement=True,
    )
    op.create_index("outbox_status", "outbox", ["status", "id"])
    op.create_table(
        "parked",
        sa.Column("number", NUMBER, primary_key=True, autoincrement=True),
        sa.Column("consumer", sa.String, nullable=False),
        sa.Column("topic", sa.String, nullable=False),
        sa.Column("partition", sa.Integer, nullable=False),
        sa.Column("offset", sa.BigInteger, nullable=False),
        sa.Column("key", sa.LargeBinary),
        sa.Column("value", sa.LargeBinary),
        sa.Column("headers", sa.Text, nullable=False),
        sa.Column("reason", sa.String, nullable=False),
        sa.Column("detail", sa.String, nullable=False),
        sa.Column("attempts", sa.Integer, nullable=False),
        sa.Column("parked_at", MOMENT, nullable=False),
        sa.Column("retry_at", MOMENT, nullable=False),
        sqlite_autoincrement=True,
    )
    op.create_index("parked_due", "parked", ["retry_at"])
    op.create_index("parked_key", "parked", ["consumer", "topic", "key", "number"])
    op.create_table(
        "job",
        sa.Column("id", sa.String, primary_key=True),
        sa.Column("kind", sa.String, nullable=False),
        sa.Column("project", sa.String),
        sa.Column("spec", sa.JSON, nullable=False),
        sa.Column("status", sa.String, nullable=False),
        sa.Column("attempts", sa.Integer, nullable=False),
        sa.Column("crashes", sa.Integer, nullable=False),
        sa.Column("cancel", sa.Boolean, nullable=False),
        sa.Column("token", sa.Integer, nullable=False),
        sa.Column("owner", sa.String),
        sa.Column("lease_until", MOMENT),
        sa.Column("progress", sa.JSON),
        sa.Column("code", sa.String),
        sa.Column("detail", sa.Text),
        sa.Column("created_at", MOMENT, nullable=False),
        sa.Column("finished_at", MOMENT),
    )
    op.create_index("job_due", "job", ["kind", "status", "created_at"])
    op.create_table(
        "lease",
        sa.Column("name", sa.String, primary_key=True),
        sa.Column("owner", sa.String, nullable=False),
        sa.Column("until", MOMENT, nullable=False),
    )
    op.create_table(
        "project_revision",
        sa.Column("project", sa.String, primary_key=True),
        sa.Column("revision", sa.String, primary_key=True),
        sa.Column("spec", sa.Text, nullable=False),
        sa.Column("defined_at", MOMENT, nullable=False),
    )


def downgrade() -> None:
    for table in ("project_revision", "lease", "job", "parked", "outbox", "inbox"):
        op.drop_table(table)
