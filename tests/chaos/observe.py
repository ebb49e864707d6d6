"""Reads a stack at rest into `Observed`: topics, offsets, tables, artifacts, what the gateway answers. Changes nothing."""

import hashlib
import json
import uuid
from collections.abc import Iterable, Mapping, Sequence
from pathlib import Path
from typing import Any

import httpx
import pyarrow.parquet as pq
from confluent_kafka import Consumer, ConsumerGroupTopicPartitions, TopicPartition
from confluent_kafka.admin import AdminClient
from sqlalchemy import text

from compose.local.settings import SERVICES
from contracts.topics import TOPICS
from tests.chaos.load import PROJECTS
from tests.chaos.observed import Identity, Message, Observed, Operation
from tests.chaos.system import SystemUnderTest

JOBS = ("prep", "trainer", "evaluator")
OUTSIDERS = "downstream"
ENDED = ("failed", "cancelled")


def observe(system: SystemUnderTest, operations: Sequence[Operation]) -> Observed:
    """Everything there is to see."""
    consumers = {t.name: tuple(g for g in t.consumers if g != OUTSIDERS) for t in TOPICS}
    return Observed(
        operations=operations,
        topics=read_topics(system.kafka),
        consumers=consumers,
        inbox={f"{service}.main": inbox(system, service) for service in SERVICES},
        committed=committed(system.kafka, consumers),
        outbox=[row for service in SERVICES for row in rows(system, service, "outbox", "id, topic, status")]
        + spool(system),
        parked=[row for s in SERVICES for row in rows(system, s, "parked", 'topic, "partition", "offset"')],
        jobs=[row for service in JOBS for row in rows(system, service, "job", "id, status")],
        records=records(system),
        transitions=rows(system, "registry", "transition", "id, name, version, after, cause, reason", "ORDER BY id"),
        answering={project: answering(system, project) for project in PROJECTS},
        artifacts=artifacts(system.home / "artifacts" / "sha256"),
    )


def rows(system: SystemUnderTest, service: str, table: str, columns: str, order: str = "") -> list[Mapping[str, Any]]:
    """A table's rows with the service's name."""
    engine = system.engine(service)
    try:
        with engine.connect() as connection:
            found = connection.execute(text(f'SELECT {columns} FROM "{table}" {order}')).mappings()
            return [{"service": service, **row} for row in found]
    finally:
        engine.dispose()


def records(system: SystemUnderTest) -> list[Mapping[str, Any]]:
    """Prep's records, those whose content lies in a segment with what it has there."""
    folder = system.home / "artifacts" / "sha256"
    contents: dict[tuple[str, int], dict[str, str]] = {}
    for segment in rows(system, "prep", "segment", "project, number, artifact"):
        ref = segment["artifact"]
        digest = (json.loads(ref) if isinstance(ref, str) else ref)["sha256"]
        found = pq.read_table(folder / digest[:2] / digest[2:], columns=["record_id", "record"]).to_pylist()
        contents[segment["project"], segment["number"]] = {row["record_id"]: row["record"] for row in found}
    return [
        row if row["segment"] is None else {**row, "record": contents[row["project"], row["segment"]][row["record_id"]]}
        for row in rows(system, "prep", "record", "project, record_id, revision, record, segment")
    ]


def spool(system: SystemUnderTest) -> list[Mapping[str, Any]]:
    """What is left in the gateway's spool."""
    import sqlite3

    with sqlite3.connect(f"file:{system.home / 'state' / 'serving-spool.db'}?mode=ro", uri=True) as connection:
        found = connection.execute("SELECT id, topic, status FROM outbox").fetchall()
    return [{"service": "serving-spool", "id": id, "topic": topic, "status": status} for id, topic, status in found]


def inbox(system: SystemUnderTest, service: str) -> frozenset[Identity]:
    """The identities that a service took."""
    taken = rows(system, service, "inbox", "source, id", f"WHERE consumer = '{service}.main'")
    return frozenset((row["source"], row["id"]) for row in taken)


def read_topics(kafka: str) -> dict[str, list[Message]]:
    """Every message of every topic, by partition and offset."""
    consumer = Consumer(
        {"bootstrap.servers": kafka, "group.id": uuid.uuid4().hex, "enable.auto.commit": False, "log_level": 0}
    )
    try:
        listed = consumer.list_topics(timeout=20).topics
        names = [name for name in listed if not name.startswith("__")]
        return {name: _read(consumer, name, listed[name].partitions) for name in names}
    finally:
        consumer.close()


def _read(consumer: Consumer, topic: str, partitions: Iterable[int]) -> list[Message]:
    found: list[Message] = []
    for partition in sorted(partitions):
        place = TopicPartition(topic, partition)
        first, end = consumer.get_watermark_offsets(place, timeout=20)
        place.offset = first
        consumer.assign([place])
        while first < end:
            for got in consumer.consume(min(1000, end - first), 5.0):  # more would be waited for
                error = got.error()
                if error is not None:
                    raise RuntimeError(f"{topic}/{partition} cannot be read: {error}")
                first = (got.offset() or 0) + 1
                found.append(_message(got))
    return found


def _message(got: Any) -> Message:
    headers: dict[str, bytes | None] = dict(got.headers() or [])
    return Message(got.topic(), got.partition(), got.offset(), got.timestamp()[1], got.key(), got.value(), headers)


def committed(kafka: str, consumers: Mapping[str, Sequence[str]]) -> dict[tuple[str, str, int], int]:
    """The groups' committed offsets."""
    admin = AdminClient({"bootstrap.servers": kafka, "log_level": 0})
    found: dict[tuple[str, str, int], int] = {}
    for group in {group for groups in consumers.values() for group in groups}:
        asked = admin.list_consumer_group_offsets([ConsumerGroupTopicPartitions(group)])[group].result(20)
        for place in asked.topic_partitions or ():
            found[group, place.topic, place.partition] = place.offset
    return found


def artifacts(root: Path) -> dict[str, tuple[str, int]]:
    """Digest by name -> (digest of the content, bytes)."""
    found: dict[str, tuple[str, int]] = {}
    for path in root.glob("??/*") if root.exists() else ():
        with path.open("rb") as file:
            found[path.parent.name + path.name] = hashlib.file_digest(file, "sha256").hexdigest(), path.stat().st_size
    return found


def answering(system: SystemUnderTest, project: str) -> int:
    """The version that a request for the project is answered with; the gateway's own word of what it did."""
    body = {"model": project, "messages": [{"role": "user", "content": "a"}], "max_tokens": 1}
    answer = httpx.post(f"{system.url('serving')}/v1/chat/completions", json=body, timeout=60)
    return int(answer.headers.get("x-noria-model-version", -1))


def unsettled(system: SystemUnderTest) -> str:
    """What still moves; empty once the stack is at rest."""
    for service in SERVICES:
        for table, where in (("outbox", "status = 'pending'"), ("parked", "true"), ("job", "status <> 'done'")):
            left = [r for r in rows(system, service, table, "*", f"WHERE {where}") if r.get("status") not in ENDED]
            if left:
                return f"{service}: {len(left)} in {table}"
    for service in SERVICES:
        health = httpx.get(f"{system.url(service)}/health/ready", timeout=5).json()
        if any(health["lag"].values()) or health["status"] != "ready":
            return f"{service}: {health}"
    if signals := rows(system, "feedback", "signal", "signal_id", "WHERE status = 'waiting'"):
        return f"feedback: {len(signals)} signals wait for their request"
    waiting = [row for row in rows(system, "serving", "deployment", "project, status") if row["status"] == "pending"]
    return f"{len(waiting)} deployments" if waiting else ""
