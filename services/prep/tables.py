"""Prep's tables as SQLModel classes. Holds no logic."""

from datetime import datetime
from typing import Any

from sqlalchemy import JSON, BigInteger, Column, MetaData, Table, Text, exists
from sqlmodel import Field, SQLModel

from services.chassis.retention.references import ArtifactReference
from services.chassis.storage.tables import UtcDateTime
from services.prep.domain.positions import Positions

METADATA = MetaData()


class RecordRow(SQLModel, table=True):
    """An accepted record's newest revision. (`shard`, `sequence`) numbers the change that made it so: see ShardRow."""

    __tablename__ = "record"  # pyright: ignore[reportAssignmentType]
    metadata = METADATA

    project: str = Field(primary_key=True)
    record_id: str = Field(primary_key=True)
    revision: int
    format: str
    record: str = Field(sa_column=Column(Text, nullable=False))
    digest: str
    tags: str = Field(sa_column=Column(Text, nullable=False))
    subject: str | None = None
    accepted_at: datetime = Field(sa_column=Column(UtcDateTime, nullable=False))
    shard: int = Field(sa_column=Column(BigInteger, nullable=False))
    sequence: int = Field(sa_column=Column(BigInteger, nullable=False))
    shape: str | None = None
    sent: str | None = Field(default=None, sa_column=Column(Text))
    """JSON of the record as it came, where it was converted."""
    kind: str
    """One of contracts/kinds.py; of a record accepted by a release before there were kinds its format."""
    segment: int | None = None
    """The segment that holds `record` and `sent`, which are empty then; None: the row has them itself."""


class SegmentRow(SQLModel, table=True):
    """A Parquet file of `rows` records' contents, `size` bytes unpacked, under its digest in the artifact store."""

    __tablename__ = "segment"  # pyright: ignore[reportAssignmentType]
    metadata = METADATA

    project: str = Field(primary_key=True)
    number: int = Field(primary_key=True)
    artifact: dict[str, Any] = Field(sa_column=Column(JSON, nullable=False))
    rows: int = Field(sa_column=Column(BigInteger, nullable=False))
    size: int = Field(sa_column=Column(BigInteger, nullable=False))


class ShardRow(SQLModel, table=True):
    """A counter of a project's changes, held by the transaction that counts in it until its end.

    So the sequences of a shard are in the order of commits: whoever has read one has read all before it.
    """

    __tablename__ = "shard"  # pyright: ignore[reportAssignmentType]
    metadata = METADATA

    project: str = Field(primary_key=True)
    shard: int = Field(sa_column=Column(BigInteger, primary_key=True, autoincrement=False))
    sequence: int = Field(default=0, sa_column=Column(BigInteger, nullable=False, default=0))


class ProgressRow(SQLModel, table=True):
    """How far a project's datasets have come, which no consumed record waits for.

    `seen` is how many changes the timer knew at `seen_at`. Up to the `frozen_positions` all is in a dataset, up to
    `tried_positions`, the total of which is `tried`, a freeze was tried. `announced` is the project's revision with which the
    newest dataset was announced.
    """

    __tablename__ = "progress"  # pyright: ignore[reportAssignmentType]
    metadata = METADATA

    project: str = Field(primary_key=True)
    seen: int = Field(default=0, sa_column=Column(BigInteger, nullable=False))
    seen_at: datetime | None = Field(default=None, sa_column=Column(UtcDateTime))
    frozen_positions: Positions = Field(default_factory=Positions, sa_column=Column(JSON, nullable=False))
    tried_positions: Positions = Field(default_factory=Positions, sa_column=Column(JSON, nullable=False))
    tried: int = Field(default=0, sa_column=Column(BigInteger, nullable=False))
    freezes: int = 0
    job: str | None = None
    announced: str | None = None
    failure: dict[str, Any] | None = Field(default=None, sa_column=Column(JSON(none_as_null=True)))


class DatasetRow(SQLModel, table=True):
    """A frozen dataset."""

    __tablename__ = "dataset"  # pyright: ignore[reportAssignmentType]
    metadata = METADATA

    project: str = Field(primary_key=True)
    number: int = Field(primary_key=True)
    version: str
    project_revision: str
    counts: dict[str, int] = Field(sa_column=Column(JSON, nullable=False))
    drops: dict[str, int] = Field(sa_column=Column(JSON, nullable=False))
    kinds: dict[str, dict[str, int]] | None = Field(default=None, sa_column=Column(JSON(none_as_null=True)))
    """Rows by split and kind; None of a dataset from before they were counted."""
    cause: str
    frozen_at: datetime = Field(sa_column=Column(UtcDateTime, nullable=False))
    files: dict[str, Any] = Field(sa_column=Column(JSON, nullable=False))
    profile: dict[str, Any] = Field(sa_column=Column(JSON, nullable=False))
    report: dict[str, Any] = Field(sa_column=Column(JSON, nullable=False))
    segments: list[str] | None = Field(default=None, sa_column=Column(JSON(none_as_null=True)))
    """Digests of the segments that its records lay in; the others were in the tail."""


class AnnotationRow(SQLModel, table=True):
    """What people say of a dataset beside its tags; `sequence` counts how often they said something."""

    __tablename__ = "annotation"  # pyright: ignore[reportAssignmentType]
    metadata = METADATA

    project: str = Field(primary_key=True)
    number: int = Field(primary_key=True)
    sequence: int
    note: str = Field(sa_column=Column(Text, nullable=False))
    by: str
    at: datetime = Field(sa_column=Column(UtcDateTime, nullable=False))


class TagRow(SQLModel, table=True):
    """A tag of a dataset."""

    __tablename__ = "dataset_tag"  # pyright: ignore[reportAssignmentType]
    metadata = METADATA

    project: str = Field(primary_key=True)
    number: int = Field(primary_key=True)
    tag: str = Field(primary_key=True)


def _table(model: type[SQLModel]) -> Table:
    return getattr(model, "__table__")  # noqa: B009 - SQLModel's types do not know the attribute


RECORD, SEGMENT, SHARD, PROGRESS = (_table(row) for row in (RecordRow, SegmentRow, ShardRow, ProgressRow))


def artifact_references() -> tuple[ArtifactReference, ...]:
    """Datasets name their files, profile and report, the newest of a project for good; segments name their file."""
    dataset = _table(DatasetRow)
    later = dataset.alias()
    newest = ~exists().where(later.c.project == dataset.c.project, later.c.number > dataset.c.number)
    return (
        ArtifactReference(dataset, (dataset.c.files, dataset.c.profile, dataset.c.report), dataset.c.frozen_at, newest),
        ArtifactReference(SEGMENT, (SEGMENT.c.artifact,)),
    )
