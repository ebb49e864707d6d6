"""Two and three instances of each service at work on one PostgreSQL, with their group dealt anew in the middle.

An instance is what a process of the service has of its own: an engine, and threads that take its partitions' batches and lease
its jobs. Kafka's part is played by `deal`: in the middle each partition goes to another instance, which begins with the batch
whose offsets were not committed, while the old one, which does not know it yet, takes that too. What jobs run in
processes of their own does not run here: a worker leases each and ends it as failed, which is told as any other end.
"""

import asyncio
import json
from collections import Counter, defaultdict
from collections.abc import Callable, Iterator, Sequence
from concurrent.futures import ThreadPoolExecutor
from contextlib import ExitStack
from dataclasses import dataclass, field
from datetime import UTC, datetime
from importlib import import_module
from itertools import chain
from pathlib import Path
from threading import Barrier
from threading import Event as Flag
from typing import Any, TypeVar
from zlib import crc32

import pytest
from sqlalchemy import select
from sqlmodel import Session

from contracts.envelope import Event
from contracts.events.evaluator import EvaluationFailedV1
from contracts.events.feedback import SignalRecordedV1
from contracts.events.ingestion import RecordAcceptedV1
from contracts.events.prep import DatasetFrozenV1
from contracts.events.registry import ModelPromotedV1, ModelRegisteredV1, ProjectDefinedV1
from contracts.events.serving import InferenceCompletedV1
from contracts.events.trainer import ModelTrainedV1, RunFailedV1
from contracts.events.upstream import RecordSubmittedV1
from contracts.project import ProjectSpec
from contracts.records import PlainText
from services.chassis.context import Context
from services.chassis.jobs.failures import Failure
from services.chassis.jobs.job import Job, JobKind
from services.chassis.jobs.outcomes import Outcomes
from services.chassis.jobs.queue import JobQueue
from services.chassis.messaging.batch import BatchContext, take
from services.chassis.messaging.messages import ConsumerRecord, routes
from services.chassis.messaging.outbox import OUTBOX
from services.chassis.observability.metrics import Metrics
from services.chassis.service import Service
from services.chassis.storage.artifacts import open_store
from services.chassis.storage.database import clock, is_database_fault, open_engine, reading, writing
from services.chassis.storage.migration import migrate
from services.feedback.domain.signals import Feedback
from services.feedback.handlers import give
from services.prep.handlers import FREEZE
from services.prep.segments import tail
from services.serving.store import DeploymentRow
from tests.unit.chain import message

E = TypeVar("E", bound=Event)
PROJECTS = tuple(f"p{n}" for n in range(12))
TURNS = (1, 2, 3)
"""Of each project, or record, so many events in order."""
PARTITIONS = 6
SIZE = 4
REVISION = "d" * 64
EXAMPLES = Path(__file__).parents[2] / "contracts" / "examples"
NOW = datetime(2026, 1, 1, tzinfo=UTC)


def example(cls: type[E], project: str, **changes: Any) -> E:
    """The contract's example of an event, as another project's."""
    event = cls.model_validate(json.loads((EXAMPLES / f"{cls.TOPIC}.json").read_text())["data"])
    if hasattr(event, "spec"):
        changes |= {"spec": ProjectSpec(project=project, base="none"), "project_revision": REVISION}
    return event.model_copy(update={"project": project, **changes})


@dataclass
class Instance:
    """One of the service's instances, and what it did."""

    service: Service
    batch: BatchContext
    context: Context[Any]
    fates: Counter[str] = field(default_factory=Counter[str])
    jobs: int = 0

    def take(self, messages: Sequence[ConsumerRecord]) -> None:
        """As the consumer does: a batch that the database refuses is taken once more."""
        while True:
            try:
                result = take(self.batch, messages)
            except Exception as error:
                if not is_database_fault(error):
                    raise
            else:
                for (fate, _, _), count in result.fates.items():
                    self.fates[fate] += count
                return

    def read(self, fn: Callable[[Any], Any]) -> Any:
        """What the store says."""
        return self.context.read_now(fn)

    def lease(self, kind: JobKind, owner: str) -> Job | None:
        """As a worker does."""
        with writing(self.batch.engine) as connection, Session(connection) as session:
            return JobQueue(session).lease(kind.kind, owner, clock(connection), 60.0)

    def end(self, kind: JobKind, job: Job) -> None:
        """As a worker does whose job failed."""

        async def ended() -> None:
            await Outcomes(self.context, asyncio.Event()).given_up(kind, job, Failure("killed", "by the test"))

        asyncio.run(ended())
        self.jobs += 1


@pytest.fixture
def open_instances(database: str, tmp_path: Path) -> Iterator[Callable[[str, int], list[Instance]]]:
    """Instances of a service that know the projects."""
    with ExitStack() as stack:

        def make(name: str, count: int) -> list[Instance]:
            service: Service = import_module(f"services.{name}.app").service
            settings = type(service.settings)(home=tmp_path, database=database)
            found: list[Instance] = []
            for _ in range(count):
                engine = open_engine(settings)
                stack.callback(engine.dispose)
                if not found:
                    assert service.migrations is not None
                    migrate(engine, service.name, service.migrations)
                metrics, handlers = Metrics(name), routes(service.handlers)
                batch = BatchContext(settings.group, settings.source, handlers, engine, service.store, metrics)
                context: Context[Any] = Context(settings, engine, service.store, open_store(settings), metrics)
                found.append(Instance(service, batch, context))
            if ProjectDefinedV1 in service.handlers:
                specs = [ProjectSpec(project=project, base="none") for project in PROJECTS]
                defined = [ProjectDefinedV1(project=s.project, revision=REVISION, spec=s) for s in specs]
                take(found[0].batch, [message(event, f"defined-{event.project}") for event in defined])
            return found

        yield make


def deal(
    instances: Sequence[Instance], messages: Sequence[ConsumerRecord]
) -> list[tuple[Instance, list[Any], list[Any]]]:
    """For each instance what it takes before the group is dealt anew, as a zombie after that, and as a new owner.

    Each is a list of batches of one partition.
    """
    partitions: dict[int, list[ConsumerRecord]] = defaultdict(list)
    for each in messages:
        partitions[crc32(each.key or b"") % PARTITIONS].append(each)
    plans: list[tuple[Instance, list[Any], list[Any], list[Any]]] = [(one, [], [], []) for one in instances]
    for number, found in partitions.items():
        batches = [found[at : at + SIZE] for at in range(0, len(found), SIZE)]
        half = max(1, len(batches) // 2)
        _, early, zombie, _ = plans[number % len(plans)]
        early += batches[: half - 1]
        zombie.append(batches[half - 1])
        plans[(number + 1) % len(plans)][3].extend(batches[half - 1 :])
    return [(one, [early, zombie], rest) for one, early, zombie, rest in plans]


def run_jobs(one: Instance, kind: JobKind, fed: Flag, first: Barrier) -> None:
    """Leases and ends jobs, until none is left and none will come; each instance has one before any ends its first."""
    while True:
        over = fed.is_set()
        job = one.lease(kind, f"worker-{id(one)}")
        if job is not None:
            if not one.jobs:
                first.wait()
            one.end(kind, job)
        elif over:
            return
        else:
            fed.wait(0.02)


def work(instances: Sequence[Instance], messages: Sequence[ConsumerRecord]) -> None:
    """All instances at once, with their jobs; returns when all is done."""
    dealt = Barrier(2 * len(instances), timeout=60)

    def old(one: Instance, early: list[Any], zombie: list[Any]) -> None:
        for batch in early:
            one.take(batch)
        dealt.wait()
        for batch in zombie:
            one.take(batch)

    def new(one: Instance, batches: list[Any]) -> None:
        dealt.wait()
        for batch in batches:
            one.take(batch)

    fed, first = Flag(), Barrier(len(instances), timeout=60)
    with ThreadPoolExecutor(3 * len(instances)) as pool:
        plans = deal(instances, messages)
        tasks = [pool.submit(old, one, *before) for one, before, _ in plans]
        tasks += [pool.submit(new, one, rest) for one, _, rest in plans]
        kinds = [kind for kind in instances[0].service.jobs if kind.kind != FREEZE]
        workers = [pool.submit(run_jobs, one, kind, fed, first) for one in instances for kind in kinds]
        try:
            for task in tasks:
                task.result(90)
        finally:
            fed.set()
        for worker in workers:
            worker.result(90)


def emitted(one: Instance, cls: type[E]) -> list[E]:
    """The events of a class in the outbox, in its order."""
    query = select(OUTBOX.c.value).where(OUTBOX.c.topic == cls.TOPIC).order_by(OUTBOX.c.id)
    with reading(one.batch.engine) as connection:
        return [cls.model_validate_json(bytes(value)) for value in connection.execute(query).scalars()]


def by(key: Callable[[E], Any], events: Sequence[E], said: Callable[[E], Any]) -> dict[Any, list[Any]]:
    """What the events of each key say, in order."""
    found: dict[Any, list[Any]] = defaultdict(list)
    for event in events:
        found[key(event)].append(said(event))
    return found


def submissions() -> list[Event]:
    return [
        RecordSubmittedV1(project=project, record_id=f"r{n}", record={"text": f"text {turn}"})
        for turn in TURNS
        for project in PROJECTS
        for n in range(3)
    ]


def check_ingestion(one: Instance) -> None:
    events = emitted(one, RecordAcceptedV1)
    found = by(lambda e: e.key, events, lambda e: (e.revision, getattr(e.record, "text", "")))
    every = [(turn, f"text {turn}") for turn in TURNS]
    assert found == {f"{project}/r{n}": every for project in PROJECTS for n in range(3)}


def acceptances() -> list[Event]:
    return [
        RecordAcceptedV1(
            project=project,
            record_id=f"r{n}",
            revision=turn,
            format="text",
            record=PlainText(text=f"text {turn}"),
            digest="0" * 64,
        )
        for turn in TURNS
        for project in PROJECTS
        for n in range(3)
    ]


def check_prep(one: Instance) -> None:
    last = json.dumps({"text": f"text {TURNS[-1]}"}, separators=(",", ":"))
    for project in PROJECTS:
        found = one.read(lambda store, project=project: [*chain(*tail(store.session.connection(), project))])
        assert sorted((each.record_id, each.revision, each.record) for each in found) == [
            (f"r{n}", TURNS[-1], last) for n in range(3)
        ]


def datasets() -> list[Event]:
    found: list[Event] = []
    for turn in TURNS:
        for project in PROJECTS:
            event = example(DatasetFrozenV1, project)
            version = f"{crc32(project.encode()) + turn:064x}"
            dataset = event.dataset.model_copy(update={"project": project, "number": turn, "version": version})
            found.append(event.model_copy(update={"dataset": dataset}))
    return found


def check_trainer(one: Instance) -> None:
    """Each dataset's run ended once: by a worker, or superseded by the next dataset while it waited."""
    events = emitted(one, RunFailedV1)
    assert {
        project: len(set(runs)) for project, runs in by(lambda e: e.project, events, lambda e: e.run_id).items()
    } == (dict.fromkeys(PROJECTS, len(TURNS)))
    assert len(events) == len(PROJECTS) * len(TURNS)
    assert {event.cause for event in events} <= {"killed", "superseded"}


def trainings() -> list[Event]:
    return [example(ModelTrainedV1, project, run_id=f"{project}-{turn}") for turn in TURNS for project in PROJECTS]


def check_evaluator(one: Instance) -> None:
    found = Counter(event.run_id for event in emitted(one, EvaluationFailedV1))
    assert found == Counter(f"{project}-{turn}" for turn in TURNS for project in PROJECTS)


def check_registry(one: Instance) -> None:
    found = by(lambda e: e.project, emitted(one, ModelRegisteredV1), lambda e: (e.model.version, e.run_id))
    assert found == {project: [(turn, f"{project}-{turn}") for turn in TURNS] for project in PROJECTS}


def answers() -> list[Event]:
    return [
        example(InferenceCompletedV1, project, request_id=f"{project}-{turn}") for turn in TURNS for project in PROJECTS
    ]


def give_early(one: Instance) -> None:
    """Feedback that was quicker than the record of its request, so that each answer settles one."""

    def deed(store: Any) -> tuple[None, list[Event]]:
        for turn in TURNS:
            for project in PROJECTS:
                give(Feedback(request_id=f"{project}-{turn}", thumb="up"), NOW, store)
        return None, []

    asyncio.run(one.context.transact(deed))


def check_feedback(one: Instance) -> None:
    found = Counter(event.request_id for event in emitted(one, SignalRecordedV1))
    assert found == Counter(f"{project}-{turn}" for turn in TURNS for project in PROJECTS)


def promotions() -> list[Event]:
    found: list[Event] = []
    for turn in TURNS:
        for project in PROJECTS:
            event = example(ModelPromotedV1, project, promotion=turn)
            found.append(
                event.model_copy(update={"model": event.model.model_copy(update={"name": project, "version": turn})})
            )
    return found


def check_serving(one: Instance) -> None:
    """The newest promotion stands above all before."""
    rows = one.read(lambda store: store.session.exec(select(DeploymentRow)).scalars().all())
    found = sorted((row.project, row.version, row.sequence, row.promotion) for row in rows)
    assert found == sorted((project, turn, turn, turn) for project in PROJECTS for turn in TURNS)


CASES: dict[str, tuple[Callable[[], list[Event]], Callable[[Instance], None]]] = {
    "ingestion": (submissions, check_ingestion),
    "prep": (acceptances, check_prep),
    "trainer": (datasets, check_trainer),
    "evaluator": (trainings, check_evaluator),
    "registry": (trainings, check_registry),
    "feedback": (answers, check_feedback),
    "serving": (promotions, check_serving),
}


@pytest.mark.parametrize("count", [2, 3])
@pytest.mark.parametrize("name", CASES)
def test_instances_share_the_work_and_lose_double_and_reorder_nothing(
    name: str, count: int, open_instances: Callable[[str, int], list[Instance]]
) -> None:
    events, check = CASES[name]
    instances = open_instances(name, count)
    if name == "feedback":
        give_early(instances[0])
    messages = [message(event, f"e-{n}") for n, event in enumerate(events())]
    work(instances, messages)
    check(instances[0])
    assert sum(one.fates["done"] for one in instances) == len(messages)
    assert all(one.fates["done"] for one in instances), "an instance had nothing to do"
    assert {fate for one in instances for fate in one.fates} == {"done", "duplicate"}
    if name in ("trainer", "evaluator"):
        assert all(one.jobs for one in instances), "an instance had no job"
