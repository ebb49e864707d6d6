"""Serving's tables as SQLModel classes. Holds no logic."""

from datetime import datetime
from typing import Any

from sqlalchemy import JSON, BigInteger, Column, Index, MetaData, Text, literal_column
from sqlmodel import Field, SQLModel

from services.chassis.storage.tables import UtcDateTime

METADATA = MetaData()
LIVE = "status <> 'removed'"
"""The condition of the index of live rows; spelt in queries as it is there, or SQLite does not use it."""


class Base(SQLModel):
    """Base of serving's tables."""

    metadata = METADATA


class DeploymentRow(Base, table=True):
    """A version that was promoted and how far it came; see domain/reconcile.py for `sequence` and `answered`."""

    __tablename__ = "deployment"  # pyright: ignore[reportAssignmentType]
    __table_args__ = (
        Index("deployment_of", "project", "sequence"),
        Index("deployment_newest", "promoted_at", "project", "version"),
        Index("deployment_newest_of", "project", "promoted_at", "version"),
        Index("deployment_live", "project", "version", sqlite_where=literal_column(LIVE)),
    )

    project: str = Field(primary_key=True)
    version: int = Field(primary_key=True)
    kind: str
    base: dict[str, Any] = Field(sa_column=Column(JSON, nullable=False))
    files: dict[str, Any] = Field(sa_column=Column(JSON, nullable=False))
    project_revision: str
    sequence: int
    promotion: int | None = None
    prompt_version: int | None = None
    answered: int = 0
    status: str = "pending"
    detail: str = Field(default="", sa_column=Column(Text, nullable=False))
    promoted_at: datetime = Field(sa_column=Column(UtcDateTime, nullable=False))
    deployed_at: datetime | None = Field(default=None, sa_column=Column(UtcDateTime))


class ChangeCounterRow(Base, table=True):
    """One row that counts promotions and definitions of projects, so that the deployer knows when to look."""

    __tablename__ = "change_counter"  # pyright: ignore[reportAssignmentType]

    id: int = Field(primary_key=True)
    number: int = Field(sa_column=Column(BigInteger, nullable=False))


class PromptRow(Base, table=True):
    """A prompt of a project as JSON."""

    __tablename__ = "prompt"  # pyright: ignore[reportAssignmentType]

    project: str = Field(primary_key=True)
    number: int = Field(primary_key=True)
    prompt: dict[str, Any] = Field(sa_column=Column(JSON, nullable=False))


class AnswerRow(Base, table=True):
    """An answer's figures, without anybody's words; `answerer` is an exact name, or a teacher's model and host."""

    __tablename__ = "answer"  # pyright: ignore[reportAssignmentType]
    __table_args__ = (Index("answer_of", "project", "at"),)

    request_id: str = Field(primary_key=True)
    project: str
    at: datetime = Field(sa_column=Column(UtcDateTime, nullable=False, index=True))
    answerer: str
    teacher: bool
    status: str
    prompt_tokens: int
    completion_tokens: int
    seconds: float
    first_token: float | None = None
    cost: float | None = None
    currency: str | None = None
