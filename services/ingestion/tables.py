"""Ingestion's tables as SQLModel classes. Holds no logic."""

from datetime import datetime

from sqlalchemy import Column, MetaData, Text
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
