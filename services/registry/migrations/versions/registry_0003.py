"""Prompts by number, and which of them a version and a promotion have; what was defined so far is counted in its order."""

import json
from typing import Any

import sqlalchemy as sa
from alembic import op

from contracts.canonical import canonical, digest

revision = "registry_0003"
down_revision = "registry_0002"
branch_labels = None
depends_on = "chassis_project_sequence"  # the numbers follow the definitions' sequence

MOMENT = sa.DateTime(timezone=True)


def upgrade() -> None:
    op.add_column("model_version", sa.Column("prompt_version", sa.Integer))
    op.add_column("model_version", sa.Column("weights_of", sa.Integer))
    op.create_index("model_version_prompt", "model_version", ["name", "prompt_version", "version"])
    op.add_column("promotion", sa.Column("prompt_version", sa.Integer))
    op.create_table(
        "prompt",
        sa.Column("project", sa.String, primary_key=True),
        sa.Column("number", sa.Integer, primary_key=True),
        sa.Column("digest", sa.String, nullable=False),
        sa.Column("prompt", sa.JSON, nullable=False),
        sa.Column("revision", sa.String, nullable=False),
        sa.Column("at", MOMENT, nullable=False),
    )
    op.create_index("prompt_digest", "prompt", ["project", "digest"], unique=True)
    _count()


def downgrade() -> None:
    op.drop_table("prompt")
    op.drop_column("promotion", "prompt_version")
    op.drop_index("model_version_prompt", "model_version")
    op.drop_column("model_version", "weights_of")
    op.drop_column("model_version", "prompt_version")


def _count() -> None:
    """A number for each distinct prompt by its first definition that is still known, and each version's number."""
    revision_of = sa.table("project_revision", *map(sa.column, ("project", "revision", "spec", "sequence")))
    at = sa.type_coerce(sa.column("defined_at"), MOMENT).label("defined_at")
    defined = sa.select(revision_of.c.project, revision_of.c.revision, revision_of.c.spec, at).select_from(revision_of)
    rows = op.get_bind().execute(
        defined.where(sa.column("defined_at").is_not(None)).order_by("project", "sequence", "defined_at")
    )
    numbers: dict[tuple[str, str], int] = {}
    counts: dict[str, int] = {}
    for row in rows.mappings().all():
        found = json.loads(row["spec"])["prompt"]
        key = row["project"], digest(canonical(found))
        if key not in numbers:
            counts[row["project"]] = numbers[key] = counts.get(row["project"], 0) + 1
            _keep({"project": key[0], "number": numbers[key], "digest": key[1], "prompt": found}, row)
        _note(row, numbers[key])


def _keep(values: dict[str, Any], row: sa.RowMapping) -> None:
    names = ("project", "number", "digest", "revision")
    prompt = sa.table("prompt", *map(sa.column, names), sa.column("prompt", sa.JSON), sa.column("at", MOMENT))
    told = {"revision": row["revision"], "at": row["defined_at"]}
    op.get_bind().execute(prompt.insert().values(**values, **told))


def _note(row: sa.RowMapping, number: int) -> None:
    version = sa.table("model_version", sa.column("name"), sa.column("prompt_version"), sa.column("trained", sa.JSON))
    of_revision = version.c.trained["project_revision"].as_string() == row["revision"]
    of_project = version.c.name == row["project"]
    op.get_bind().execute(version.update().where(of_project, of_revision).values(prompt_version=number))
