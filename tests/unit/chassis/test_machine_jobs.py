"""Jobs and leases against a model with a clock of its own: holders that sleep, vanish and come back late, clocks set wrong.

A job is completed once, by the newest holder; two never hold it at the same moment; it is never lost, and no wrong
clock freezes it for longer than a lease.
"""

from collections.abc import Generator
from contextlib import contextmanager, nullcontext
from dataclasses import dataclass, field
from datetime import UTC, datetime, timedelta

import pytest
from hypothesis import strategies as st
from hypothesis.stateful import RuleBasedStateMachine, initialize, invariant, precondition, rule
from sqlalchemy import Engine
from sqlmodel import Session

from services.chassis.jobs import leases
from services.chassis.jobs.failures import Failure, RetryPolicy
from services.chassis.jobs.job import Job
from services.chassis.jobs.queue import LONGEST_PAUSE, JobQueue
from services.chassis.storage.database import writing
from tests.unit.chassis.machines import Crash, dying_at_commit, empty, explore

SECONDS = 20.0
BEGIN = datetime(2026, 1, 1, tzinfo=UTC)
OWNERS = st.sampled_from(["a.example:1:1", "b.example:1:1", "c.example:1:1"])
JUMPS = st.sampled_from([1.0, 5.0, 11.0, 21.0, 21.0, 3600.0, -3600.0])
AT_ONCE = RetryPolicy(first_pause=0)
CHECKPOINT = {"step": 1, "files": {}}
ENDED = ("done", "failed", "cancelled")
CRASHES = st.booleans().flatmap(lambda first: st.booleans().map(lambda second: first and second))


@dataclass
class Expected:
    """What the book should hold of a job."""

    status: str = "queued"
    token: int = 0
    owner: str | None = None
    until: datetime | None = None
    retry_at: datetime | None = None
    failures: int = 0
    losses: int = 0
    cancel: bool = False
    completions: int = 0
    views: list[Job] = field(default_factory=list[Job])
    """Every lease ever given: whoever got it may come back with it at any time."""


class JobsMachine(RuleBasedStateMachine):
    """The machine; `engine` is set by the test."""

    engine: Engine

    @initialize()
    def begin(self) -> None:
        empty(self.engine)
        self.now = BEGIN
        self.jobs: dict[str, Expected] = {}

    @contextmanager
    def book(self, *, crash: bool = False) -> Generator[JobQueue]:
        """A transaction as workers have it; where it crashes, what the block believes of it is void."""
        dying = dying_at_commit(self.engine) if crash else nullcontext()
        with dying, writing(self.engine) as connection, Session(connection) as session:
            yield JobQueue(session)
            session.flush()

    @rule(number=st.integers(0, 3))
    def enqueue(self, number: int) -> None:
        id = f"job{number}"
        with self.book() as book:
            assert book.enqueue("train", id, {}) == (id not in self.jobs)
        self.jobs.setdefault(id, Expected())

    @rule(seconds=JUMPS)
    def wait(self, seconds: float) -> None:
        """Time passes, or the clock is set."""
        self.now += timedelta(seconds=seconds)

    def cut_pauses(self) -> None:
        """What lies further ahead than any pause was set under another clock."""
        for job in self.jobs.values():
            if job.status == "queued" and job.retry_at is not None:
                job.retry_at = min(job.retry_at, self.now + LONGEST_PAUSE)

    @precondition(lambda self: self.jobs)
    @rule(owner=OWNERS, crash=CRASHES)
    def lease(self, owner: str, crash: bool) -> None:
        until = self.now + timedelta(seconds=SECONDS)
        free = {id for id, job in self.jobs.items() if self.is_free(job)}
        got: Job | None = None
        try:
            with self.book(crash=crash) as book:
                may = book.any_free("train", self.now, SECONDS)
                got = book.lease("train", owner, self.now, SECONDS)
                assert (got is not None) == bool(free)
                assert may or got is None
        except Crash:
            return
        self.cut_pauses()
        for job in self.jobs.values():
            if job.status == "running" and job.until is not None and job.until > until:
                job.until = until
        if got is not None:
            job = self.jobs[got.id]
            assert got.id in free
            assert got.token == job.token + 1
            job.losses += job.status == "running"
            assert (got.failures, got.worker_losses) == (job.failures, job.losses)
            job.retry_at = None
            job.status, job.owner, job.token, job.until = "running", owner, got.token, until
            job.views.append(got)

    def is_free(self, job: Expected) -> bool:
        """Whether nobody holds the job now."""
        if job.status == "queued":
            return job.retry_at is None or job.retry_at <= self.now
        return job.status == "running" and job.until is not None and job.until < self.now

    def pick(self, which: int, *, newest: bool) -> tuple[Job, Expected, bool] | None:
        """A lease that was given once, what the model knows of its job, and whether it still holds."""
        given = [(view, job) for job in self.jobs.values() for view in (job.views[-1:] if newest else job.views)]
        if not given:
            return None
        view, job = given[which % len(given)]
        return view, job, job.status == "running" and job.token == view.token

    @rule(which=st.integers(0, 20), newest=st.booleans(), further=st.booleans(), crash=CRASHES)
    def heartbeat(self, which: int, newest: bool, further: bool, crash: bool) -> None:
        if (picked := self.pick(which, newest=newest)) is None:
            return
        view, job, holds = picked
        try:
            with self.book(crash=crash) as book:
                renewed = book.heartbeat(view, self.now, SECONDS, {"step": which}, CHECKPOINT if further else None)
                assert (renewed is not None) == holds
                assert renewed is None or renewed.cancel == job.cancel
        except Crash:
            return
        if holds:
            job.until = self.now + timedelta(seconds=SECONDS)
        if holds and further:
            job.failures = job.losses = 0

    @rule(which=st.integers(0, 20), newest=st.booleans(), seconds=st.sampled_from([0, 5, 900]), crash=CRASHES)
    def retry_later(self, which: int, newest: bool, seconds: float, crash: bool) -> None:
        if (picked := self.pick(which, newest=newest)) is None:
            return
        view, job, holds = picked
        at = self.now + timedelta(seconds=seconds)
        try:
            with self.book(crash=crash) as book:
                held = book.held(view)
                assert (held is not None) == holds
                count = held.failures + 1 if held else 0
                assert book.retry_later(view, Failure("killed", "x"), at, failures=count, crashes=count) == holds
        except Crash:
            return
        if holds:
            job.status, job.owner, job.until, job.failures = "queued", None, None, job.failures + 1
            job.retry_at = None if job.cancel else at

    @precondition(lambda self: self.jobs)
    @rule(which=st.integers(0, 3))
    def restart(self, which: int) -> None:
        """Somebody wants a job that is over once more."""
        id = list(self.jobs)[which % len(self.jobs)]
        job = self.jobs[id]
        with self.book() as book:
            assert book.restart(id) == (job.status in ENDED)
        if job.status in ENDED:
            job.status, job.cancel, job.retry_at = "queued", False, None
            job.token += 1
            job.failures = job.losses = job.completions = 0

    @precondition(lambda self: self.jobs)
    @rule(which=st.integers(0, 3))
    def cancel_queued(self, which: int) -> None:
        id = list(self.jobs)[which % len(self.jobs)]
        job = self.jobs[id]
        with self.book() as book:
            ended = book.cancel_queued(id, Failure("cancelled", "x"))
        assert (ended is not None) == (job.status == "queued")
        if ended is not None:
            job.status, job.cancel, job.retry_at, job.completions = "cancelled", True, None, 1

    @rule(which=st.integers(0, 20), newest=st.booleans(), crash=CRASHES)
    def give_back(self, which: int, newest: bool, crash: bool) -> None:
        if (picked := self.pick(which, newest=newest)) is None:
            return
        view, job, holds = picked
        try:
            with self.book(crash=crash) as book:
                assert book.give_back(view) == holds
        except Crash:
            return
        if holds:
            job.status, job.owner, job.until = "queued", None, None

    @rule(which=st.integers(0, 20), newest=st.booleans(), failed=st.booleans(), crash=CRASHES)
    def finish(self, which: int, newest: bool, failed: bool, crash: bool) -> None:
        if (picked := self.pick(which, newest=newest)) is None:
            return
        view, job, holds = picked
        status, failure = ("failed", Failure("x", "nul \x00 half \ud800")) if failed else ("done", None)
        try:
            with self.book(crash=crash) as book:
                assert book.finish(view, self.now, status, failure) == holds
        except Crash:
            return
        if holds:
            job.status, job.owner, job.until = status, None, None
            job.completions += 1

    @precondition(lambda self: self.jobs)
    @rule(which=st.integers(0, 3))
    def cancel(self, which: int) -> None:
        id = list(self.jobs)[which % len(self.jobs)]
        job = self.jobs[id]
        with self.book() as book:
            assert book.cancel(id) == (job.status not in ENDED)
        if job.status not in ENDED:
            job.cancel, job.retry_at = True, None

    @rule(gone=OWNERS)
    def reclaim(self, gone: str) -> None:
        """A process starts and finds that another of its host is gone."""
        with self.book() as book:
            freed = book.reclaim(lambda owner: owner == gone, self.now, AT_ONCE)
        mine = [job for job in self.jobs.values() if job.status == "running" and job.owner == gone]
        assert len(freed) == len(mine)
        for job in mine:
            job.status, job.owner, job.until, job.losses = "queued", None, None, job.losses + 1
            job.retry_at = self.now if job.losses > 1 and not job.cancel else job.retry_at

    @invariant()
    def book_holds_what_it_should(self) -> None:
        with self.book() as book:
            for id, expected in getattr(self, "jobs", {}).items():
                job = book.get(id)
                assert job is not None
                assert (job.status, job.token, job.cancel) == (expected.status, expected.token, expected.cancel)
                assert expected.completions == (job.status in ENDED)
                assert (job.finished_at is not None) == bool(expected.completions)

    def teardown(self) -> None:
        """Whoever holds a job is gone, whatever the clock did: after one lease everything can be done."""
        if not hasattr(self, "jobs"):
            return
        self.lease("d.example:1:1", False)
        self.now += timedelta(seconds=SECONDS + 1) + LONGEST_PAUSE
        for _ in self.jobs:
            self.lease("d.example:1:1", False)
        for which in range(len(self.jobs)):
            self.finish(which, True, False, False)
        assert all(job.completions >= 1 for job in self.jobs.values())


class LeaseMachine(RuleBasedStateMachine):
    """The named lease of the relay."""

    engine: Engine
    now = BEGIN

    @initialize()
    def begin(self) -> None:
        empty(self.engine)
        type(self).now = BEGIN
        self.owner: str | None = None
        self.until = BEGIN

    @rule(seconds=JUMPS)
    def wait(self, seconds: float) -> None:
        """Time passes, or the clock is set."""
        type(self).now += timedelta(seconds=seconds)

    @rule(owner=OWNERS)
    def hold(self, owner: str) -> None:
        now, bound = self.now, self.now + timedelta(seconds=SECONDS)
        with writing(self.engine) as connection:
            held = leases.hold(connection, "relay", owner, SECONDS)
        taken = self.owner not in (None, owner) and self.until > now
        assert held == (not taken)
        if taken:
            self.until = min(self.until, bound)
        elif self.owner != owner or not timedelta(seconds=SECONDS / 2) < self.until - now <= bound - now:
            self.owner, self.until = owner, bound

    @rule(owner=OWNERS)
    def release(self, owner: str) -> None:
        with writing(self.engine) as connection:
            leases.release(connection, owner)
        self.owner = None if self.owner == owner else self.owner

    def teardown(self) -> None:
        """Whoever holds the lease is gone: another has it after its length."""
        self.hold("d.example:1:1")
        type(self).now += timedelta(seconds=SECONDS + 1)
        self.hold("d.example:1:1")
        assert self.owner == "d.example:1:1"


def test_job_is_completed_once_and_never_lost(engine: Engine) -> None:
    JobsMachine.engine = engine
    explore(engine, JobsMachine, examples=100, steps=40)


def test_lease_has_one_holder_and_comes_free(engine: Engine, monkeypatch: pytest.MonkeyPatch) -> None:
    LeaseMachine.engine = engine
    monkeypatch.setattr(leases, "clock", lambda _: LeaseMachine.now)
    explore(engine, LeaseMachine, examples=100, steps=40)
