"""Ingestion's tables as SQLModel classes. Holds no logic."""

from datetime import datetime

from sqlalchemy import Column, Index, MetaData, Text
from sqlmodel import Field, SQLModel

from services.chassis.storage.tables import NUMBER, UtcDateTime

METADATA = MetaData()


class RecordRow(SQLModel, table=True):
    """The newest revision of a record."""

    __tablename__ = "record"  # pyright: ignore[reportAssignmentType]
    metadata = METADATA

    project: str = Field(primary_key=True)
    record_id: str = Field(primary_key=True)
    revision: int
    fingerprint: str


class CounterRow(SQLModel, table=True):
    """How often a project's submissions ended so: `unchanged`, `not_sampled` or `refused.<reason>`; the sum over the shards."""

    __tablename__ = "tally"  # pyright: ignore[reportAssignmentType]
    metadata = METADATA

    project: str = Field(primary_key=True)
    outcome: str = Field(primary_key=True)
    shard: int = Field(default=0, primary_key=True)
    n: int = 0


class WaitingRow(SQLModel, table=True):
    """A submission whose project is not known yet."""

    __tablename__ = "waiting"  # pyright: ignore[reportAssignmentType]
    metadata = METADATA

    number: int | None = Field(default=None, sa_column=Column(NUMBER, primary_key=True, autoincrement=True))
    project: str
    submitted: str = Field(sa_column=Column(Text, nullable=False))
    source: str
    source_id: str
    refuse_at: datetime | None = Field(default=None, sa_column=Column(UtcDateTime))


class PartRow(SQLModel, table=True):
    """What one export of log events told of a call, as `domain.traces.parts` writes it."""

    __tablename__ = "part"  # pyright: ignore[reportAssignmentType]
    __table_args__ = (Index("part_received", "received_at"), Index("part_size", "project", "size"))
    metadata = METADATA

    project: str = Field(primary_key=True)
    call: str = Field(primary_key=True)
    """TRACE-SPAN."""
    identity: str = Field(primary_key=True)
    told: str = Field(sa_column=Column(Text, nullable=False))
    size: int
    """Characters of `told`, which is ASCII."""
    log_records: int
    answers: bool
    """Whether it tells of an answer."""
    settled: bool
    """Whether it was said what became of it."""
    received_at: datetime = Field(sa_column=Column(UtcDateTime, nullable=False))
