"""How large everything is now: rows and bytes by table, messages and bytes by topic, folders, memory. Changes nothing."""

import os
from collections.abc import Iterator, Sequence
from contextlib import suppress
from dataclasses import dataclass
from pathlib import Path

import httpx
from confluent_kafka import Consumer, TopicPartition
from sqlalchemy import Connection, text

from contracts.topics import BY_NAME, dead_letter_topics
from tests.soak.stand import SERVICES, Stand

PAGE_BYTES = os.sysconf("SC_PAGE_SIZE")


@dataclass(frozen=True, slots=True)
class Size:
    """Rows, messages or files, and bytes where they are known by themselves."""

    count: int
    bytes: int = 0


Sizes = dict[str, Size]


def measure(stand: Stand) -> Sizes:
    """Everything by its name: `table SERVICE.NAME`, `topic NAME`, `folder NAME`, `memory SERVICE`, `bytes of NAME`."""
    sizes = dict(_topics(stand))
    for service in SERVICES:
        sizes |= dict(_tables(stand, service))
        sizes[f"memory {service}"] = Size(1, _resident(stand.processes[service].pid))
    folders = {name: stand.home / name for name in ("artifacts", "cache", "logs", "state")}
    for name, folder in (folders | {"kafka": stand.broker.home / "kafka"}).items():
        files = _bytes(folder)
        sizes[f"folder {name}"] = Size(len(files), sum(files))
    sizes["bytes of databases"] = Size(1, sum(_database_bytes(stand)))
    return sizes


def produced(stand: Stand) -> dict[str, int]:
    """Messages ever sent by topic: the sum of the offsets after the last ones."""
    return {name: sum(last for _, last in bounds) for name, bounds in _offsets(stand).items()}


def taken(stand: Stand, services: Sequence[str] = SERVICES) -> dict[str, int]:
    """Messages that services took, by topic, as their own figures say; a message that two groups took counts twice."""
    found: dict[str, int] = {}
    for service in services:
        for line in httpx.get(f"{stand.url(service)}/metrics", timeout=30).text.splitlines():
            if line.startswith(f"noria_{service}_consumed_total{{"):
                topic, count = line.split('topic="')[1].split('"')[0], float(line.rsplit(" ", 1)[1])
                found[topic] = found.get(topic, 0) + round(count)
    return found


def lag(stand: Stand) -> int:
    """Messages that services have not taken yet."""
    answers = [httpx.get(f"{stand.url(service)}/health/ready", timeout=30).json() for service in SERVICES]
    return sum(sum(answer["lag"].values()) for answer in answers)


def _topics(stand: Stand) -> Iterator[tuple[str, Size]]:
    logs = stand.broker.home / "kafka" / "data"
    for name, bounds in _offsets(stand).items():
        folders = (folder for folder in logs.glob(f"{name}-*") if folder.name.removeprefix(f"{name}-").isdecimal())
        size = sum(sum(_bytes(folder)) for folder in folders)
        yield f"topic {name}", Size(sum(last - first for first, last in bounds), size)


def _offsets(stand: Stand) -> dict[str, list[tuple[int, int]]]:
    reader = Consumer({"bootstrap.servers": stand.broker.bootstrap, "group.id": "soak", "log_level": 0})
    try:
        known = reader.list_topics(timeout=30).topics
        names = [name for name in (*BY_NAME, *dead_letter_topics()) if name in known]
        return {
            name: [reader.get_watermark_offsets(TopicPartition(name, p), timeout=30) for p in known[name].partitions]
            for name in names
        }
    finally:
        reader.close()


def _tables(stand: Stand, service: str) -> Iterator[tuple[str, Size]]:
    engine = stand.engine(service)
    try:
        with engine.connect() as connection:
            for name, size in _names(connection, service):
                count = connection.execute(text(f'SELECT count(*) FROM "{name}"')).scalar_one()
                yield f"table {service}.{name}", Size(count, size)
    finally:
        engine.dispose()


def _names(connection: Connection, service: str) -> list[tuple[str, int]]:
    """Tables with their bytes; SQLite tells those of the whole file alone (`folder state`)."""
    if connection.dialect.name == "sqlite":
        names = connection.execute(
            text("SELECT name FROM sqlite_master WHERE type = 'table' AND name NOT LIKE 'sqlite_%'")
        )
        return [(name, 0) for (name,) in names]
    query = text(
        "SELECT c.relname, pg_total_relation_size(c.oid) FROM pg_class c JOIN pg_namespace n ON n.oid = c.relnamespace"
        " WHERE n.nspname = :schema AND c.relkind = 'r'"
    )
    return [(name, size) for name, size in connection.execute(query, {"schema": service})]


def _database_bytes(stand: Stand) -> list[int]:
    """SQLite's files with their logs; PostgreSQL's whole database, rows that are dead and not yet vacuumed included."""
    if stand.postgres is None:
        return _bytes(stand.home / "state")
    engine = stand.engine("ingestion")
    try:
        with engine.connect() as connection:
            return [connection.execute(text("SELECT pg_database_size(current_database())")).scalar_one()]
    finally:
        engine.dispose()


def _bytes(folder: Path) -> list[int]:
    """What the files of a folder take on the disk, while services work in it; Kafka's indexes are longer than that."""
    sizes: list[int] = []
    for path in folder.rglob("*"):
        with suppress(FileNotFoundError):
            if path.is_file():
                sizes.append(path.stat().st_blocks * 512)
    return sizes


def _resident(pid: int) -> int:
    return int(Path(f"/proc/{pid}/statm").read_text().split()[1]) * PAGE_BYTES
