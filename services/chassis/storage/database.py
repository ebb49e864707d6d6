"""Engines and transactions for SQLite and PostgreSQL. Knows no table."""

from collections.abc import Callable, Generator
from contextlib import AbstractContextManager, contextmanager, nullcontext
from datetime import UTC, datetime
from pathlib import Path
from threading import Lock
from typing import Any, TypeVar
from weakref import WeakKeyDictionary

from sqlalchemy import Connection, Engine, create_engine, event, make_url, text
from sqlalchemy.exc import DBAPIError, InterfaceError, OperationalError

from services.chassis.settings import Settings

T = TypeVar("T")
PRAGMAS = (
    "journal_mode=WAL",
    "foreign_keys=ON",
    "busy_timeout=10000",
    "wal_autocheckpoint=4000",
    "cache_size=-4000",
)
IDLE_LEASES = 3
"""For so many leases a transaction on PostgreSQL may wait for its process: 60 s by default; handlers are quicker."""


def open_engine(settings: Settings) -> Engine:
    """The engine of the service's database. On PostgreSQL the service's tables live in a schema of its name."""
    return open_database(settings.database_url, settings.SERVICE, settings.lease_seconds)


def open_database(url: str, schema: str, lease_seconds: float) -> Engine:
    """The engine of a database by its URL; transactions on PostgreSQL may stand still for IDLE_LEASES leases."""
    if make_url(url).get_backend_name() == "sqlite":
        # FULL: an offset is committed to Kafka right after the transaction; a power cut must not take the rows back.
        return open_sqlite(url, synchronous="FULL")
    return _open_postgresql(url, schema, max(1, round(lease_seconds * IDLE_LEASES * 1000)))


def _open_postgresql(url: str, schema: str, patience: int) -> Engine:
    """A stopped or cut off process keeps no rows locked: its transaction ends, and who took over goes on.

    While it was between two statements that is the idle session's time limit; in the middle of sending one the server
    calls it active, and only `transaction_timeout` (PostgreSQL 17 and later) ends it. `patience` in milliseconds.
    """
    options = f"-csearch_path={schema} -cidle_in_transaction_session_timeout={patience}"
    engine = create_engine(
        url,
        hide_parameters=True,  # errors go into logs, and parameters are what people wrote
        pool_size=4,
        max_overflow=4,
        pool_pre_ping=True,
        connect_args={"options": options, "connect_timeout": 5},
    )

    @event.listens_for(engine, "begin")
    def begin(connection: Connection) -> None:
        reads = connection.get_execution_options().get("noria_reads", False)
        if not reads and (connection.dialect.server_version_info or ()) >= (17,):
            connection.exec_driver_sql(f"SET LOCAL transaction_timeout = {patience}")

    return engine


def open_sqlite(url: str, synchronous: str) -> Engine:
    """An SQLite engine in WAL mode. `synchronous`: FULL syncs at each commit, NORMAL survives a kill only."""
    path = make_url(url).database
    if path and path != ":memory:":
        Path(path).parent.mkdir(parents=True, exist_ok=True)
    engine = create_engine(url, hide_parameters=True, connect_args={"timeout": 10, "check_same_thread": False})

    @event.listens_for(engine, "connect")
    def configure(connection: Any, _: Any) -> None:
        connection.isolation_level = None
        for pragma in (*PRAGMAS, f"synchronous={synchronous}"):
            connection.execute(f"PRAGMA {pragma}")

    @event.listens_for(engine, "begin")
    def begin(connection: Connection) -> None:
        # A deferred transaction that turns to writing can fail at once with SQLITE_BUSY; an immediate one waits.
        reads = connection.get_execution_options().get("noria_reads", False)
        connection.exec_driver_sql("BEGIN" if reads else "BEGIN IMMEDIATE")

    return engine


@contextmanager
def writing(engine: Engine) -> Generator[Connection]:
    """A transaction that may write: committed at the end, rolled back when anything is raised."""
    with _turn(engine), engine.begin() as connection:
        yield connection


_TURNS: WeakKeyDictionary[Engine, Lock] = WeakKeyDictionary()


def _turn(engine: Engine) -> AbstractContextManager[Any]:
    """SQLite has one writer: its threads queue here, where waiting costs no polling."""
    if engine.dialect.name != "sqlite":
        return nullcontext()
    return _TURNS.setdefault(engine, Lock())


@contextmanager
def reading(engine: Engine) -> Generator[Connection]:
    """A transaction that only reads."""
    with engine.connect().execution_options(noria_reads=True) as connection, connection.begin():
        yield connection


SQLITE_FAULTS = frozenset({"BUSY", "LOCKED", "NOMEM", "READONLY", "IOERR", "CORRUPT", "FULL", "CANTOPEN", "PROTOCOL"})
POSTGRES_TIMES_OUT = frozenset({"25P03", "25P04"})
"""SQLSTATE of a transaction that was ended because it stood still, or took too long."""
POSTGRES_FAULTS = frozenset({"08", "40", "53", "57", "58"})
"""SQLSTATE classes: connection, transaction rollback, resources, operator intervention, system error."""


class DatabaseAway(Exception):
    """A process of its own found the database away, locked or full."""


class WriteConflict(Exception):
    """Another transaction changed a row between this one's reading and writing it; done anew, this one sees the change."""


def is_database_fault(error: BaseException) -> bool:
    """Whether `error` says that the database is away, locked or full, rather than that a statement is wrong."""
    if not isinstance(error, DBAPIError):
        return isinstance(error, DatabaseAway | WriteConflict)
    name = str(getattr(error.orig, "sqlite_errorname", "")).removeprefix("SQLITE_").split("_")[0]
    state = getattr(error.orig, "sqlstate", None)
    if name or state:
        return name in SQLITE_FAULTS or str(state)[:2] in POSTGRES_FAULTS or state in POSTGRES_TIMES_OUT
    return error.connection_invalidated or isinstance(error, OperationalError | InterfaceError)


def log_failure(log: Any, said: str, error: BaseException, **where: Any) -> None:
    """Logs what will be tried again: a database that is away in one line, anything else as an error with its traceback."""
    if is_database_fault(error):
        log.warning(said, detail=str(error)[:300], **where)
    else:
        log.error(said, exc_info=error, **where)


def check(engine: Engine) -> None:
    """Raises the driver's error where the database does not answer."""
    with reading(engine) as connection:
        connection.execute(text("SELECT 1"))


def lock(connection: Connection, name: str) -> None:
    """Waits until no other transaction holds `name`, which is this one's until it ends; SQLite has one writer anyway."""
    if connection.dialect.name != "sqlite":
        connection.execute(text("SELECT pg_advisory_xact_lock(hashtext(:name))"), {"name": name})


def clock(connection: Connection) -> datetime:
    """The time by which leases are counted: one clock for all who share the database, PostgreSQL's own where it has one."""
    if connection.dialect.name == "sqlite":
        return datetime.now(UTC)
    return connection.execute(text("SELECT clock_timestamp()")).scalar_one().astimezone(UTC)


def in_transaction(engine: Engine, work: Callable[[Connection], T]) -> T:
    """The result of `work` in one writing transaction."""
    with writing(engine) as connection:
        return work(connection)
