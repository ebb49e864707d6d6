"""Feedback's tables."""

from datetime import datetime
from typing import Any, cast

from sqlalchemy import JSON, Column, Index, MetaData, Table, Text
from sqlmodel import Field, SQLModel

from services.chassis.storage.tables import UtcDateTime

METADATA = MetaData()


class Base(SQLModel):
    """Base of feedback's tables."""

    metadata = METADATA


class RequestRow(Base, table=True):
    """A request; `body` is JSON, which holds any text, a NUL too. Of a conversation where the client named one."""

    __tablename__ = "request"  # pyright: ignore[reportAssignmentType]
    __table_args__ = (Index("request_of_conversation", "project", "conversation", "completed_at", "request_id"),)

    request_id: str = Field(primary_key=True)
    completed_at: datetime = Field(sa_column=Column(UtcDateTime, nullable=False, index=True))
    project: str | None = None
    conversation: str | None = None
    body: dict[str, Any] = Field(sa_column=Column(JSON, nullable=False))


class SignalRow(Base, table=True):
    """A signal; `body` holds the Signal's fields, `about` says which signals replace one another."""

    __tablename__ = "signal"  # pyright: ignore[reportAssignmentType]
    __table_args__ = (
        Index("signal_newest", "received_at", "signal_id"),
        Index("signal_waiting", "status", "received_at"),
        Index("signal_last", "about", "number", unique=True),
    )

    signal_id: str = Field(primary_key=True)
    request_id: str = Field(index=True)
    received_at: datetime = Field(sa_column=Column(UtcDateTime, nullable=False))
    status: str
    project: str | None = None
    record_id: str | None = None
    reason: str | None = None
    detail: str | None = None
    about: str
    number: int
    body: dict[str, Any] = Field(sa_column=Column(JSON, nullable=False))


class ExampleRow(Base, table=True):
    """An example; `body` holds the fields of Example that have no column."""

    __tablename__ = "example"  # pyright: ignore[reportAssignmentType]
    __table_args__ = (
        Index("example_queue", "status", "said_at", "example_id"),
        Index("example_of_project", "project", "status", "said_at", "example_id"),
        Index("example_of_source", "project", "source", "said_at"),
        Index("example_of_user", "project", "source", "user", "said_at"),
        Index("example_on_question", "project", "question", "status"),
        Index("example_of_request", "request_id", "example_id"),
        Index("example_due", "status", "until"),
        Index("example_oldest", "said_at"),
    )

    example_id: str = Field(primary_key=True)
    project: str
    source: str
    status: str
    reason: str | None = None
    detail: str | None = Field(default=None, sa_column=Column(Text))
    until: datetime | None = Field(default=None, sa_column=Column(UtcDateTime))
    by: str = ""
    note: str = Field(default="", sa_column=Column(Text, nullable=False))
    request_id: str
    user: str | None = None
    question: str
    sketch: str = Field(sa_column=Column(Text, nullable=False))
    said_at: datetime = Field(sa_column=Column(UtcDateTime, nullable=False))
    body: dict[str, Any] = Field(sa_column=Column(JSON, nullable=False))


class OpinionRow(Base, table=True):
    """Whether an answer to a question is good, as the last word of one person on one request says."""

    __tablename__ = "opinion"  # pyright: ignore[reportAssignmentType]
    __table_args__ = (
        Index("opinion_on_question", "project", "question", "answer", "is_good", "user"),
        Index("opinion_of_user", "project", "user", "answer", "is_good", "question"),
    )

    about: str = Field(primary_key=True)
    answer: str = Field(primary_key=True)
    project: str
    question: str
    is_good: bool
    user: str = ""
    said_at: datetime = Field(sa_column=Column(UtcDateTime, nullable=False, index=True))


def table_of(model: type[SQLModel]) -> Table:
    """The table of a class."""
    return cast(Table, getattr(model, "__table__"))  # noqa: B009 - SQLModel's types do not know the attribute
