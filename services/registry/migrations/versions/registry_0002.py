"""Promotions as rows, how a version's evaluation and deployment stand, and the indexes of every list."""

import sqlalchemy as sa
from alembic import op

revision = "registry_0002"
down_revision = "registry_0001"
branch_labels = None
depends_on = None

MOMENT = sa.DateTime(timezone=True)
CANDIDATE = sa.text("stage = 'candidate'")


def upgrade() -> None:
    op.add_column("model", sa.Column("promotions", sa.Integer, nullable=False, server_default="0"))
    op.add_column("model", sa.Column("retired_after", sa.Integer))
    for column in (
        sa.Column("champion", sa.Integer),
        sa.Column("evaluation", sa.String, nullable=False, server_default="pending"),
        sa.Column("rounds", sa.Integer, nullable=False, server_default="0"),
        sa.Column("awaited", sa.Integer),
        sa.Column("deployment", sa.String),
        sa.Column("deployment_detail", sa.Text, nullable=False, server_default=""),
    ):
        op.add_column("model_version", column)
    op.execute(sa.text("UPDATE model_version SET evaluation = 'done' WHERE scored IS NOT NULL"))
    op.create_index("model_version_of", "model_version", ["name", "created_at", "run_id"])
    op.create_index("model_version_stage", "model_version", ["name", "stage", "version"])
    op.create_index(
        "model_version_open", "model_version", ["evaluation"], sqlite_where=CANDIDATE, postgresql_where=CANDIDATE
    )
    op.create_index("transition_of_version", "transition", ["name", "version", "id"])
    promotion = op.create_table(
        "promotion",
        sa.Column("name", sa.String, primary_key=True),
        sa.Column("number", sa.Integer, primary_key=True),
        sa.Column("version", sa.Integer, nullable=False),
        sa.Column("below", sa.Integer),
        sa.Column("cause", sa.String, nullable=False),
        sa.Column("by", sa.String, nullable=False),
        sa.Column("detail", sa.Text, nullable=False),
        sa.Column("at", MOMENT, nullable=False),
        sa.Column("status", sa.String, nullable=False),
        sa.Column("status_detail", sa.Text, nullable=False),
    )
    op.create_index("promotion_of", "promotion", ["name", "version", "number"])
    _promotions_of_history(promotion)


def downgrade() -> None:
    op.drop_table("promotion")
    op.drop_index("transition_of_version", "transition")
    for index in ("model_version_open", "model_version_stage", "model_version_of"):
        op.drop_index(index, "model_version")
    for column in ("deployment_detail", "deployment", "awaited", "rounds", "evaluation", "champion"):
        op.drop_column("model_version", column)
    for column in ("retired_after", "promotions"):
        op.drop_column("model", column)


def _promotions_of_history(promotion: sa.Table) -> None:
    """What stood in the history alone until now: each promotion, and below it the one that a rollback returned to."""
    entry = sa.table("transition", *map(sa.column, ("id", "name", "version", "after", "cause", "by", "reason")))
    at = sa.Column("at", MOMENT)
    rows = op.get_bind().execute(
        sa.select(*entry.c, sa.type_coerce(sa.column("at"), at.type).label("at"))
        .select_from(entry)
        .where(entry.c.after == "production")
        .order_by(entry.c.name, entry.c.id)
    )
    stacks: dict[str, list[tuple[int, int]]] = {}
    counts: dict[str, int] = {}
    for row in rows.mappings().all():
        stack, number = stacks.setdefault(row["name"], []), counts.get(row["name"], 0) + 1
        held = [i for i, (_, version) in enumerate(stack) if version == row["version"]]
        if row["cause"] == "rollback" and held:
            del stack[held[-1] :]
        values = {name: row[name] for name in ("name", "version", "cause", "by", "at")}
        below = stack[-1][0] if stack else None
        told = {"number": number, "below": below, "detail": row["reason"], "status": "pending", "status_detail": ""}
        op.get_bind().execute(promotion.insert().values(**values, **told))
        stack.append((number, row["version"]))
        counts[row["name"]] = number
    for name, count in counts.items():
        model = sa.table("model", sa.column("name"), sa.column("promotions"))
        op.get_bind().execute(model.update().where(model.c.name == name).values(promotions=count))
