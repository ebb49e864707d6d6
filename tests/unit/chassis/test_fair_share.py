"""Projects take turns in the book of jobs: the real queue under a simulated clock, and two instances at once.

The bounds are those of docs/operations.md, "Who is next".
"""

import random
from collections import defaultdict
from collections.abc import Generator, Iterator
from concurrent.futures import ThreadPoolExecutor
from contextlib import contextmanager
from dataclasses import dataclass, field
from datetime import UTC, datetime, timedelta
from itertools import count
from pathlib import Path

import pytest
from sqlalchemy import Engine, text
from sqlmodel import Session

from contracts.events.registry import ProjectDefinedV1
from contracts.project import ProjectSpec
from services.chassis.jobs import fair_share
from services.chassis.jobs.failures import RetryPolicy
from services.chassis.jobs.job import Job
from services.chassis.jobs.queue import JobQueue
from services.chassis.storage.database import open_sqlite, reading, writing
from services.chassis.storage.migration import migrate
from services.chassis.storage.projects import ProjectRevisions

BEGIN = datetime(2026, 1, 1, tzinfo=UTC)
TURN = 1800.0
EVER = 1e12


@pytest.fixture
def quick(tmp_path: Path) -> Iterator[Engine]:
    """SQLite that waits for no disk."""
    engine = open_sqlite(f"sqlite:///{tmp_path / 'jobs.db'}", synchronous="OFF")
    migrate(engine, "noria")
    yield engine
    engine.dispose()


@contextmanager
def book(engine: Engine) -> Generator[JobQueue]:
    with writing(engine) as connection, Session(connection) as session:
        yield JobQueue(session)
        session.flush()


def define(engine: Engine, project: str, priority: str, at: datetime = BEGIN) -> None:
    spec = ProjectSpec.model_validate({"project": project, "base": "b", "priority": priority})
    digest = {"low": "1", "normal": "2", "high": "3"}[priority] * 64
    with writing(engine) as connection, Session(connection) as session:
        ProjectRevisions(session).remember(ProjectDefinedV1(project=project, revision=digest, spec=spec), at)
        session.flush()


@dataclass
class Slot:
    """What a worker runs: it beats at `until`, where a turn or the job ends."""

    job: Job | None = None
    until: float = 0.0


@dataclass
class Simulation:
    """Workers and projects on a clock in seconds. `again`: projects that enqueue anew as soon as a job of theirs ends."""

    engine: Engine
    slots: list[Slot]
    again: frozenset[str] = frozenset()
    now: float = 0.0
    left: dict[str, float] = field(default_factory=dict[str, float])
    asked: dict[str, float] = field(default_factory=dict[str, float])
    waits: dict[str, list[float]] = field(default_factory=dict[str, list[float]])
    worked: defaultdict[str, float] = field(default_factory=lambda: defaultdict(float))
    numbers: Iterator[int] = field(default_factory=count)

    @property
    def clock(self) -> datetime:
        return BEGIN + timedelta(seconds=self.now)

    def enqueue(self, project: str, seconds: float) -> None:
        id = f"{project}-{next(self.numbers)}"
        with book(self.engine) as jobs:
            jobs.enqueue("train", id, {"seconds": seconds}, project=project)
        self.left[id], self.asked[id] = seconds, self.now

    def run(self, until: float) -> None:
        """Lets time pass up to `until`."""
        while True:
            for slot in self.slots:
                if slot.job is None:
                    self.lease(slot)
            busy = [slot for slot in self.slots if slot.job is not None]
            if not busy or min(slot.until for slot in busy) > until:
                self.now = until
                return
            first = min(busy, key=lambda slot: slot.until)
            self.now = first.until
            self.beat(first)

    def lease(self, slot: Slot) -> None:
        with book(self.engine) as jobs:
            slot.job = jobs.lease("train", "me", self.clock, EVER / 1000)
        if slot.job is not None:
            if slot.job.id in self.asked:
                wait = self.now - self.asked.pop(slot.job.id)
                self.waits.setdefault(str(slot.job.project), []).append(wait)
            slot.until = self.now + min(TURN, self.left[slot.job.id])
            self.begun = self.now

    def beat(self, slot: Slot) -> None:
        job = slot.job
        assert job is not None
        project, ran = str(job.project), min(TURN, self.left[job.id])
        self.left[job.id] -= ran
        self.worked[project] += ran
        with book(self.engine) as jobs:
            if self.left[job.id] <= 0:
                assert jobs.finish(job, self.clock, "done")
                slot.job = None
            else:
                assert jobs.heartbeat(job, self.clock, EVER / 1000)
                if jobs.gives_way(job, self.clock):
                    assert jobs.give_back(job)
                    slot.job = None
        slot.until = self.now + min(TURN, self.left[job.id])
        if slot.job is None and self.left[job.id] <= 0 and project in self.again:
            self.enqueue(project, float(job.spec["seconds"]))


@pytest.mark.parametrize("slots", [1, 4])
def test_hundred_projects_wait_no_longer_than_a_turn_of_each_other_while_one_trains_for_ever(
    quick: Engine, slots: int
) -> None:
    seconds = 60.0
    names = [f"p{n:02}" for n in range(99)]
    stand = Simulation(quick, [Slot() for _ in range(slots)])
    for _ in range(slots):
        stand.enqueue("for-ever", EVER)
    chance = random.Random(7)
    stand.run(10 * TURN)
    for name in chance.sample(names, len(names)):
        stand.run(stand.now + chance.uniform(0, 300))
        stand.enqueue(name, seconds)
    stand.run(stand.now + 100 * TURN)
    bound = (slots * TURN + 98 * seconds) / slots + TURN
    assert sorted(stand.waits) == ["for-ever", *names]
    assert max(max(stand.waits[name]) for name in names) <= bound
    assert stand.worked["for-ever"] > 50 * TURN


def test_flood_of_one_project_makes_nobody_else_wait_behind_it(quick: Engine) -> None:
    stand = Simulation(quick, [Slot()])
    for _ in range(300):
        stand.enqueue("flood", 100.0)
    stand.run(250.0)
    for name in ("a", "b", "c"):
        stand.enqueue(name, 100.0)
    stand.run(1000.0)
    # The job under way ends, then each has its turn: nobody meets two jobs of the flood.
    assert [max(stand.waits[name]) for name in ("a", "b", "c")] == [50.0, 150.0, 250.0]


def test_low_priority_is_served_within_its_bound_and_by_its_weight(quick: Engine) -> None:
    high = [f"high{n}" for n in range(5)]
    for name in high:
        define(quick, name, "high")
    define(quick, "lowly", "low")
    stand = Simulation(quick, [Slot()], again=frozenset([*high, "lowly"]))
    for name in [*high, "lowly"]:
        stand.enqueue(name, 60.0)
    stand.run(60.0 * 400)
    ratio = fair_share.WEIGHTS["high"] / fair_share.WEIGHTS["low"]
    assert max(stand.waits["lowly"]) <= 60.0 * len(high) * (1 + ratio)
    assert stand.worked["lowly"] == pytest.approx(24_000 / (1 + len(high) * ratio), rel=0.2)
    assert max(stand.worked[name] for name in high) - min(stand.worked[name] for name in high) <= 120.0


def test_idle_project_saves_nothing_up_and_one_that_worked_alone_owes_nothing(quick: Engine) -> None:
    stand = Simulation(quick, [Slot()], again=frozenset(["early", "late"]))
    stand.enqueue("late", 60.0)
    stand.again = frozenset(["early"])
    stand.enqueue("early", 60.0)
    stand.run(12_000.0)
    stand.again = frozenset(["early", "late"])
    before = stand.worked.copy()
    stand.enqueue("late", 60.0)
    stand.run(18_000.0)
    gained = {name: stand.worked[name] - before[name] for name in ("early", "late")}
    assert gained["early"] == pytest.approx(gained["late"], abs=180.0)


def test_priority_of_a_changed_project_holds_for_what_waits(quick: Engine) -> None:
    define(quick, "p", "low")
    with book(quick) as jobs:
        jobs.enqueue("train", "a", {}, project="p")
    define(quick, "p", "high", BEGIN + timedelta(seconds=1))
    with reading(quick) as connection:
        assert connection.execute(text("SELECT priority FROM fair_share")).scalar_one() == "high"


def test_tiny_jobs_are_not_free_and_no_clock_charges_more_than_a_lease(engine: Engine) -> None:
    with book(engine) as jobs:
        jobs.enqueue("train", "a", {}, project="p")
        first = jobs.lease("train", "me", BEGIN, 20)
        assert first is not None
        assert jobs.finish(first, BEGIN + timedelta(days=400), "done")
        jobs.enqueue("train", "b", {}, project="p")
        second = jobs.lease("train", "me", BEGIN, 20)
        assert second is not None
        assert jobs.finish(second, BEGIN - timedelta(days=400), "done")
    with reading(engine) as connection:
        seconds = connection.execute(text("SELECT virtual_time FROM fair_share")).scalar_one()
    assert seconds * fair_share.WEIGHTS["normal"] == pytest.approx(20 + 2 * fair_share.LEAST_SECONDS)


def test_lease_looks_into_the_index_once_a_project(quick: Engine) -> None:
    with reading(quick) as connection, Session(connection) as session:
        query = fair_share.next_free("train", BEGIN).compile(session.get_bind(), compile_kwargs={"literal_binds": True})
        plan = [row[3] for row in connection.execute(text(f"EXPLAIN QUERY PLAN {query}"))]
    looks = [line for line in plan if "job" in line]
    assert sum("job_turn (kind=? AND project=? AND status=?" in line for line in looks) == 2, plan
    assert not [line for line in plan if line.startswith("SCAN job")], plan


def test_instances_that_lease_at_once_share_the_jobs_and_serve_every_project(engine: Engine) -> None:
    with book(engine) as jobs:
        for number in range(20):
            jobs.enqueue("train", f"flood{number}", {}, project="flood")
        for name in "abcd":
            jobs.enqueue("train", name, {}, project=name)

    def instance(owner: str) -> list[Job]:
        held: list[Job] = []
        while len(held) < 3:
            with book(engine) as jobs:
                job = jobs.lease("train", owner, BEGIN, 20)
            held += [job] if job else []
        return held

    with ThreadPoolExecutor(4) as pool:
        leased = [job for held in pool.map(instance, ["one", "two", "three", "four"]) for job in held]
    assert len({job.id for job in leased}) == 12
    assert {str(job.project) for job in leased} == {"flood", "a", "b", "c", "d"}


def test_jobs_of_a_release_without_turns_are_found_at_the_next_start(engine: Engine) -> None:
    with book(engine) as jobs:
        jobs.enqueue("train", "old", {}, project="p")
    with writing(engine) as connection:
        connection.execute(text("DELETE FROM fair_share"))
    with book(engine) as jobs:
        assert jobs.lease("train", "me", BEGIN, 20) is None
        jobs.reclaim(lambda owner: False, BEGIN, RetryPolicy())
        assert jobs.lease("train", "me", BEGIN, 20) is not None
