"""Two instances of ingestion, or of prep, at work on one project of one PostgreSQL at the same moment."""

import threading
from collections.abc import Sequence
from concurrent.futures import ThreadPoolExecutor
from contextlib import ExitStack
from dataclasses import dataclass, replace
from pathlib import Path
from typing import Any

import pytest
from sqlalchemy import Engine, select, text
from sqlmodel import Session

from contracts.envelope import Event, decode, encode, new_meta
from contracts.events.ingestion import RecordAcceptedV1
from contracts.events.registry import ProjectDefinedV1
from contracts.events.upstream import RecordSubmittedV1
from contracts.project import ProjectSpec
from contracts.records import PlainText
from services.chassis.messaging.batch import BatchContext, take
from services.chassis.messaging.messages import ConsumerRecord, routes
from services.chassis.messaging.outbox import OUTBOX, unpack_headers
from services.chassis.observability.metrics import Metrics
from services.chassis.service import Service
from services.chassis.storage.database import is_database_fault, open_engine, reading
from services.chassis.storage.migration import migrate
from services.ingestion.app import service as ingestion
from services.prep.app import service as prep
from services.prep.domain.positions import Positions
from services.prep.domain.rows import Accepted
from services.prep.segments import FIELDS, tail
from services.prep.source import snapshot

INSTANCES = 4
BATCHES = 12
SIZE = 10


@dataclass(frozen=True)
class Message:
    """A Kafka record as a batch takes it."""

    topic: str
    key: bytes
    value: bytes
    headers: Sequence[tuple[str, bytes | None]]
    offset: int
    partition: int = 0
    timestamp: int = 0


def message(event: Event, id: str) -> ConsumerRecord:
    key, value, headers = encode(event, new_meta(event, "urn:test", id))
    return Message(type(event).TOPIC, key, value, headers, 0)


def instances(service: Service, url: str, tmp_path: Path, stack: ExitStack, count: int = 2) -> list[BatchContext]:
    """Contexts of the service, each with connections of its own, that know the project `p`."""
    found: list[BatchContext] = []
    for number in range(count):
        engine = open_engine(type(service.settings)(home=tmp_path, database=url))
        stack.callback(engine.dispose)
        if not number:
            assert service.migrations is not None
            migrate(engine, service.name, service.migrations)
        settings = service.settings
        metrics = Metrics(service.name)
        found.append(
            BatchContext(settings.group, settings.source, routes(service.handlers), engine, service.store, metrics)
        )
    spec = ProjectSpec(project="p", base="none")
    take(found[0], [message(ProjectDefinedV1(project="p", revision="0" * 64, spec=spec), "project")])
    return found


def submitted(record_id: str, content: str) -> RecordSubmittedV1:
    return RecordSubmittedV1(project="p", record_id=record_id, record={"text": content})


def accepted(record_id: str, revision: int) -> RecordAcceptedV1:
    record = PlainText(text=f"text {revision}")
    return RecordAcceptedV1(
        project="p", record_id=record_id, revision=revision, format="text", record=record, digest="0" * 64
    )


def holding(store: Any, done: threading.Event, go_on: threading.Event) -> Any:
    """The store, which stops when all is written and nothing committed."""

    class Holding(store):
        def flush(self) -> None:
            super().flush()
            done.set()
            assert go_on.wait(30)

    return Holding


def of_each_fate(instance: str) -> list[ConsumerRecord]:
    """For ingestion: a new record, an unchanged one, a refused one."""
    events = [submitted(instance, "new"), submitted("known", "same"), submitted(f"bad-{instance}", " ")]
    return [message(event, f"{instance}-{n}") for n, event in enumerate(events)]


@pytest.mark.parametrize(
    ("service", "before", "batches"),
    [
        (ingestion, [submitted("known", "same")] * 2 + [submitted("bad", " ")], (of_each_fate("a"), of_each_fate("b"))),
        (prep, [accepted("known", 1)], ([message(accepted("a", 1), "a")], [message(accepted("b", 1), "b")])),
    ],
    ids=["ingestion", "prep"],
)
def test_one_instance_commits_while_another_holds_a_transaction_open_on_the_same_project(
    service: Service,
    before: list[Event],
    batches: tuple[list[ConsumerRecord], list[ConsumerRecord]],
    database: str,
    tmp_path: Path,
) -> None:
    done, go_on = threading.Event(), threading.Event()
    with ExitStack() as stack, ThreadPoolExecutor(2) as pool:
        first, second = instances(service, database, tmp_path, stack)
        take(first, [message(event, f"before-{n}") for n, event in enumerate(before)])
        held = pool.submit(take, replace(first, store=holding(service.store, done, go_on)), batches[0])
        try:
            assert done.wait(20)
            pool.submit(take, second, batches[1]).result(20)  # it did not wait for the first one's end
            assert not held.done()
        finally:
            go_on.set()
        held.result(20)
        with reading(first.engine) as connection, Session(connection) as session:
            check(service.store(session))


def check(store: Any) -> None:
    """What both instances did is there."""
    if hasattr(store, "counts"):
        counts = store.counts("p")
        assert (counts["records"], counts["unchanged"], counts["refused_by_reason"]) == (3, 3, {"empty": 3})
    else:
        assert (store.total("p"), sum(store.positions("p").values())) == (3, 3)
        assert len(store.positions("p")) == 2


def insist(context: BatchContext, batch: Sequence[ConsumerRecord]) -> None:
    """As the consumer does: a batch that the database refuses is taken once more."""
    while True:
        try:
            take(context, batch)
        except Exception as error:
            if not is_database_fault(error):
                raise
        else:
            return


def emitted(context: BatchContext) -> list[RecordAcceptedV1]:
    query = select(OUTBOX.c.headers, OUTBOX.c.value).where(OUTBOX.c.topic == RecordAcceptedV1.TOPIC)
    with reading(context.engine) as connection:
        rows = connection.execute(query.order_by(OUTBOX.c.id)).all()
    return [decode(RecordAcceptedV1, unpack_headers(row.headers), bytes(row.value)).data for row in rows]


def test_instances_that_take_revisions_of_the_same_records_lose_and_double_none(database: str, tmp_path: Path) -> None:
    """Upstream keys by project, but a correction comes by another topic and uploads may be keyed otherwise."""
    with ExitStack() as stack, ThreadPoolExecutor(INSTANCES) as pool:
        contexts = instances(ingestion, database, tmp_path, stack, INSTANCES)

        def work(number: int) -> None:
            for batch in range(BATCHES):
                events = [submitted(f"r{n}", f"{number}/{batch}") for n in range(SIZE)]
                bad = submitted("bad", " ")
                messages = [message(event, f"{number}-{batch}-{n}") for n, event in enumerate([*events, bad])]
                insist(contexts[number], messages if number % 2 else messages[::-1])

        for done in [pool.submit(work, number) for number in range(INSTANCES)]:
            done.result(60)
        revisions = {f"r{n}": [e.revision for e in emitted(contexts[0]) if e.record_id == f"r{n}"] for n in range(SIZE)}
        with reading(contexts[0].engine) as connection, Session(connection) as session:
            counts: Any = ingestion.store(session)
            counts = counts.counts("p")
    whole = INSTANCES * BATCHES
    assert all(sorted(found) == list(range(1, whole + 1)) for found in revisions.values())
    assert (counts["accepted"], counts["refused"]) == (whole * SIZE, whole)


def read_all(engine: Engine) -> tuple[list[Accepted], Positions]:
    """The records as a freeze reads them, and up to where they are all there."""
    with snapshot(engine) as connection, Session(connection) as session:
        store: Any = prep.store(session)
        rows = [row for rows in tail(connection, "p") for row in rows]
        return [Accepted(*row[: len(FIELDS)]) for row in rows], store.positions("p")


def test_instances_count_every_change_and_a_freeze_knows_what_it_has_read(database: str, tmp_path: Path) -> None:
    """Positions that are read while others commit never name a change that the records read after them lack."""
    with ExitStack() as stack, ThreadPoolExecutor(INSTANCES + 1) as pool:
        contexts = instances(prep, database, tmp_path, stack, INSTANCES)
        over = threading.Event()

        def work(number: int) -> None:
            for batch in range(BATCHES):
                events = [accepted(f"r{number}-{n}", batch + 1) for n in range(SIZE)]
                messages = [message(event, f"{number}-{batch}-{n}") for n, event in enumerate(events)]
                insist(contexts[number], messages)

        def freezes() -> int:
            looks = 0
            while not over.is_set():
                records, through = read_all(contexts[0].engine)
                read = {record.record_id: record.revision for record in records}
                with reading(contexts[0].engine) as connection:
                    rows = connection.execute(text("SELECT record_id, revision, shard, sequence FROM record")).all()
                older = [row for row in rows if row.sequence <= through.get(str(row.shard), 0)]
                assert all(read.get(row.record_id) == row.revision for row in older)
                looks += 1
            return looks

        looking = pool.submit(freezes)
        for done in [pool.submit(work, number) for number in range(INSTANCES)]:
            done.result(60)
        over.set()
        assert looking.result(20)
        records, through = read_all(contexts[0].engine)
        with reading(contexts[0].engine) as connection, Session(connection) as session:
            store: Any = prep.store(session)
            assert through == store.positions("p")
            assert sum(through.values()) == INSTANCES * BATCHES * SIZE
            assert (len(records), store.changed("p", through)) == (INSTANCES * SIZE, 0)
            assert all(record.revision == BATCHES for record in records)
            assert len(through) <= INSTANCES
