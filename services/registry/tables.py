"""The registry's tables as SQLModel classes. Holds no logic."""

from datetime import datetime
from typing import Any

from sqlalchemy import JSON, Column, Index, MetaData, Text, literal_column
from sqlmodel import Field, SQLModel

from services.chassis.storage.tables import NUMBER, UtcDateTime

METADATA = MetaData()
CANDIDATE, PRODUCTION = "stage = 'candidate'", "stage = 'production'"
"""Conditions of indexes; spelt in queries as they are there, or SQLite does not use them."""


class Base(SQLModel):
    """Base of the registry's tables."""

    metadata = METADATA


class ModelRow(Base, table=True):
    """A model; its row is locked while one of its versions moves, so that two are never in production.

    `promotions` counts them; those up to `retired_after` serve no more, since the project was taken out of service. `spent` is
    domain/spending.py's.
    """

    __tablename__ = "model"  # pyright: ignore[reportAssignmentType]

    name: str = Field(primary_key=True)
    promotions: int = 0
    retired_after: int | None = None
    spent: dict[str, Any] | None = Field(default=None, sa_column=Column(JSON(none_as_null=True)))


class VersionRow(Base, table=True):
    """A version; `trained` and `scored` are events as JSON. `champion` is the version that the score was against.

    `weights_of` is the version that was trained, null where that is this one. `decision` is domain/verdict.py's.
    """

    __tablename__ = "model_version"  # pyright: ignore[reportAssignmentType]
    __table_args__ = (
        Index("model_version_newest", "created_at", "run_id"),
        Index("model_version_of", "name", "created_at", "run_id"),
        Index("model_version_stage", "name", "stage", "version"),
        Index("model_version_production", "name", unique=True, sqlite_where=literal_column(PRODUCTION)),
        Index("model_version_open", "evaluation", sqlite_where=literal_column(CANDIDATE)),
        Index("model_version_prompt", "name", "prompt_version", "version"),
    )

    name: str = Field(primary_key=True)
    version: int = Field(primary_key=True)
    run_id: str = Field(unique=True)
    stage: str
    detail: str = Field(sa_column=Column(Text, nullable=False))
    failed: list[str] = Field(sa_column=Column(JSON, nullable=False))
    trained: dict[str, Any] = Field(sa_column=Column(JSON, nullable=False))
    scored: dict[str, Any] | None = Field(default=None, sa_column=Column(JSON(none_as_null=True)))
    created_at: datetime = Field(sa_column=Column(UtcDateTime, nullable=False))
    champion: int | None = None
    evaluation: str = "pending"
    rounds: int = 0
    awaited: int | None = None
    deployment: str | None = None
    deployment_detail: str = Field(default="", sa_column=Column(Text, nullable=False))
    prompt_version: int | None = None
    weights_of: int | None = None
    decision: dict[str, Any] | None = Field(default=None, sa_column=Column(JSON(none_as_null=True)))


class PromptRow(Base, table=True):
    """A project's distinct prompt, `prompt` as JSON, with the first revision that had it."""

    __tablename__ = "prompt"  # pyright: ignore[reportAssignmentType]
    __table_args__ = (Index("prompt_digest", "project", "digest", unique=True),)

    project: str = Field(primary_key=True)
    number: int = Field(primary_key=True)
    digest: str
    prompt: dict[str, Any] = Field(sa_column=Column(JSON, nullable=False))
    revision: str
    at: datetime = Field(sa_column=Column(UtcDateTime, nullable=False))


class PromotionRow(Base, table=True):
    """A promotion; see domain/promotion.py."""

    __tablename__ = "promotion"  # pyright: ignore[reportAssignmentType]
    __table_args__ = (Index("promotion_of", "name", "version", "number"),)

    name: str = Field(primary_key=True)
    number: int = Field(primary_key=True)
    version: int
    below: int | None
    cause: str
    by: str
    detail: str = Field(sa_column=Column(Text, nullable=False))
    at: datetime = Field(sa_column=Column(UtcDateTime, nullable=False))
    status: str = "pending"
    status_detail: str = Field(default="", sa_column=Column(Text, nullable=False))
    prompt_version: int | None = None


class TransitionRow(Base, table=True):
    """One move of a version; rows are added, never changed."""

    __tablename__ = "transition"  # pyright: ignore[reportAssignmentType]
    __table_args__ = (Index("transition_of", "name", "id"), Index("transition_of_version", "name", "version", "id"))

    id: int | None = Field(default=None, sa_column=Column(NUMBER, primary_key=True, autoincrement=True))
    name: str
    version: int
    before: str | None
    after: str
    cause: str
    by: str
    reason: str = Field(sa_column=Column(Text, nullable=False))
    at: datetime = Field(sa_column=Column(UtcDateTime, nullable=False))
    event: str | None
