"""The chassis' tables as SQLModel classes: messages, jobs, leases, Idempotency-Keys, project revisions. Holds no logic."""

from datetime import UTC, datetime
from typing import Any

from sqlalchemy import (
    JSON,
    BigInteger,
    Column,
    DateTime,
    Dialect,
    Index,
    Integer,
    LargeBinary,
    MetaData,
    Text,
    literal_column,
)
from sqlalchemy.types import TypeDecorator
from sqlmodel import Field, SQLModel

METADATA = MetaData()
NUMBER = BigInteger().with_variant(Integer, "sqlite")
"""SQLite numbers rows by itself only where the type is INTEGER."""
OPEN_JOB = "status IN ('queued', 'running')"
"""Condition of the index `job_open`; a query must hold it as it stands for SQLite to use it (sqlite.org/partialindex.html)."""
KEPT_CHECKPOINT = "checkpoint IS NOT NULL"


class UtcDateTime(TypeDecorator[datetime]):
    """A moment in UTC; SQLite keeps no zone, so what comes back is given one."""

    impl = DateTime(timezone=True)
    cache_ok = True

    def process_bind_param(self, value: datetime | None, dialect: Dialect) -> datetime | None:
        """Refuses a moment without a zone."""
        if value is None:
            return None
        if value.tzinfo is None:
            raise ValueError(f"{value!r} has no time zone; give it in UTC")
        return value.astimezone(UTC)

    def process_result_value(self, value: datetime | None, dialect: Dialect) -> datetime | None:
        """The moment in UTC."""
        if value is None:
            return None
        return value.replace(tzinfo=UTC) if value.tzinfo is None else value.astimezone(UTC)


class Base(SQLModel):
    """Base of the chassis' tables."""

    metadata = METADATA


class Inbox(Base, table=True):
    """A message taken: its effect, its dead letter or its parked row stands in the same transaction."""

    __tablename__ = "inbox"  # pyright: ignore[reportAssignmentType]
    __table_args__ = (Index("inbox_taken", "taken_at"),)

    consumer: str = Field(primary_key=True)
    id: str = Field(primary_key=True)
    source: str = Field(primary_key=True)
    taken_at: datetime = Field(sa_column=Column(UtcDateTime, nullable=False))
    digest: int | None = Field(default=None, sa_column=Column(BigInteger))


class Outbox(Base, table=True):
    """A message to publish. Deleted once Kafka has it; `failed` when Kafka refuses it for good."""

    __tablename__ = "outbox"  # pyright: ignore[reportAssignmentType]
    __table_args__ = (Index("outbox_status", "status", "id"),)

    id: int | None = Field(default=None, sa_column=Column(NUMBER, primary_key=True, autoincrement=True))
    topic: str
    key: bytes | None = Field(default=None, sa_column=Column(LargeBinary))
    value: bytes | None = Field(default=None, sa_column=Column(LargeBinary))
    headers: str = Field(sa_column=Column(Text, nullable=False))
    status: str = "pending"
    reason: str | None = None
    created_at: datetime = Field(sa_column=Column(UtcDateTime, nullable=False))


class Parked(Base, table=True):
    """A message that waits: for its own next try, or behind an older one of its key."""

    __tablename__ = "parked"  # pyright: ignore[reportAssignmentType]
    __table_args__ = (Index("parked_due", "retry_at"), Index("parked_key", "consumer", "topic", "key"))

    number: int | None = Field(default=None, sa_column=Column(NUMBER, primary_key=True, autoincrement=True))
    consumer: str
    topic: str
    partition: int
    offset: int = Field(sa_column=Column(BigInteger, nullable=False))
    key: bytes | None = Field(default=None, sa_column=Column(LargeBinary))
    value: bytes | None = Field(default=None, sa_column=Column(LargeBinary))
    headers: str = Field(sa_column=Column(Text, nullable=False))
    reason: str
    detail: str
    attempts: int
    parked_at: datetime = Field(sa_column=Column(UtcDateTime, nullable=False))
    retry_at: datetime = Field(sa_column=Column(UtcDateTime, nullable=False))


class JobRow(Base, table=True):
    """A long job and who holds it. `token` grows with each lease: a completion with an old one is refused.

    While it is not over, `code` and `detail` are its last failure, and it is not leased before `retry_at`. `failures`,
    `crashes` among them, and `worker_losses` count from its last checkpoint on; `checkpoint` is that one's reference.
    """

    __tablename__ = "job"  # pyright: ignore[reportAssignmentType]
    __table_args__ = (
        Index("job_due", "kind", "status", "created_at"),
        Index("job_turn", "kind", "project", "status", "created_at", "id"),
        Index("job_finished", "finished_at"),
        Index("job_open", "status", "kind", sqlite_where=literal_column(OPEN_JOB)),
        Index("job_checkpoint", "finished_at", sqlite_where=literal_column(KEPT_CHECKPOINT)),
    )

    id: str = Field(primary_key=True)
    kind: str
    project: str = Field(default="", nullable=True)
    spec: dict[str, Any] = Field(sa_column=Column(JSON, nullable=False))
    status: str = "queued"
    attempts: int = 0
    failures: int = 0
    crashes: int = 0
    worker_losses: int = 0
    retry_at: datetime | None = Field(default=None, sa_column=Column(UtcDateTime))
    checkpoint: dict[str, Any] | None = Field(default=None, sa_column=Column(JSON(none_as_null=True)))
    cancel: bool = False
    token: int = 0
    owner: str | None = None
    lease_until: datetime | None = Field(default=None, sa_column=Column(UtcDateTime))
    charged_at: datetime | None = Field(default=None, sa_column=Column(UtcDateTime))
    progress: dict[str, Any] | None = Field(default=None, sa_column=Column(JSON))
    code: str | None = None
    detail: str | None = Field(default=None, sa_column=Column(Text))
    created_at: datetime = Field(sa_column=Column(UtcDateTime, nullable=False))
    finished_at: datetime | None = Field(default=None, sa_column=Column(UtcDateTime))
    traceparent: str | None = None


class FairShare(Base, table=True):
    """How much work of a kind a project had: seconds / weight of its priority, on the virtual clock of the kind.

    `virtual_start` is where its latest turn began, `virtual_time` how far it has come. See jobs/fair_share.py.
    """

    __tablename__ = "fair_share"  # pyright: ignore[reportAssignmentType]
    __table_args__ = (Index("fair_share_latest", "kind", "virtual_start"),)

    kind: str = Field(primary_key=True)
    project: str = Field(primary_key=True)
    priority: str = "normal"
    virtual_time: float = 0.0
    virtual_start: float = 0.0


class Lease(Base, table=True):
    """Who alone may do a named thing for now."""

    __tablename__ = "lease"  # pyright: ignore[reportAssignmentType]

    name: str = Field(primary_key=True)
    owner: str
    until: datetime = Field(sa_column=Column(UtcDateTime, nullable=False))


class IdempotencyKey(Base, table=True):
    """The request that came under an Idempotency-Key; `key` and `body` are digests, `outcome` is the service's own."""

    __tablename__ = "idempotency_key"  # pyright: ignore[reportAssignmentType]

    scope: str = Field(primary_key=True)
    key: str = Field(primary_key=True)
    body: str
    outcome: str = Field(sa_column=Column(Text, nullable=False))
    made_at: datetime = Field(sa_column=Column(UtcDateTime, nullable=False, index=True))


class ProjectRevision(Base, table=True):
    """A project's specification; of those with `defined_at` the one with the greatest sequence is in force.

    `sequence` is 0 where an older registry gave none; `defined_at` is null where only an event that needed it brought it.
    Not null, `retired_after` says that the project was taken out of service with that many promotions.
    """

    __tablename__ = "project_revision"  # pyright: ignore[reportAssignmentType]
    __table_args__ = (Index("project_revision_newest", "project", "sequence", "defined_at"),)

    project: str = Field(primary_key=True)
    revision: str = Field(primary_key=True)
    spec: str = Field(sa_column=Column(Text, nullable=False))
    defined_at: datetime | None = Field(default=None, sa_column=Column(UtcDateTime))
    sequence: int = Field(default=0, sa_column=Column(BigInteger))
    retired_after: int | None = None
