"""The book of jobs on both databases: one holder at a time, completion by the newest holder alone."""

from datetime import UTC, datetime, timedelta

import pytest
from sqlalchemy import Engine
from sqlmodel import Session

from services.chassis.jobs import leases
from services.chassis.jobs.queue import Failure, Job, JobQueue
from services.chassis.storage.database import writing

NOW = datetime(2026, 1, 1, tzinfo=UTC)
LATER = NOW + timedelta(minutes=5)


class Book:
    """Each call in a transaction of its own, as workers do."""

    def __init__(self, engine: Engine) -> None:
        self.engine = engine

    def __getattr__(self, name: str):
        def call(*arguments: object, **named: object) -> object:
            with writing(self.engine) as connection, Session(connection) as session:
                result = getattr(JobQueue(session), name)(*arguments, **named)
                session.flush()
                return result

        return call


@pytest.fixture
def book(engine: Engine) -> Book:
    book = Book(engine)
    assert book.enqueue("train", "a", {"x": 1}, project="p")
    return book


def lease(book: Book, owner: str, now: datetime = NOW) -> Job:
    job = book.lease("train", owner, now, 20)
    assert isinstance(job, Job)
    return job


def test_job_is_recorded_once_and_held_by_one(book: Book) -> None:
    assert not book.enqueue("train", "a", {"x": 2})
    job = lease(book, "one")
    assert (job.spec, job.project, job.attempts, job.status) == ({"x": 1}, "p", 1, "running")
    assert book.lease("train", "two", NOW, 20) is None
    assert book.lease("other", "two", LATER, 20) is None


def test_job_whose_lease_ran_out_goes_to_another_and_the_first_can_do_nothing(book: Book) -> None:
    first = lease(book, "one")
    second = lease(book, "two", LATER)
    assert second.token > first.token
    assert book.heartbeat(first, LATER, 20) is None
    assert not book.finish(first, LATER, "done")
    assert not book.give_back(first, crashed=False)
    assert book.finish(second, LATER, "failed", Failure("x", "y"))
    assert not book.finish(second, LATER, "done")
    ended = book.get("a")
    assert isinstance(ended, Job)
    assert (ended.status, ended.code, ended.detail) == ("failed", "x", "y")
    assert book.lease("train", "three", LATER, 20) is None


def test_heartbeat_keeps_the_lease_and_tells_of_a_cancellation(book: Book) -> None:
    job = lease(book, "one")
    assert book.heartbeat(job, LATER, 20, {"step": 1}) is not None
    assert book.lease("train", "two", LATER + timedelta(seconds=10), 20) is None
    assert book.cancel("a")
    held = book.heartbeat(job, LATER, 20)
    assert isinstance(held, Job)
    assert held.cancel
    assert held.progress == {"step": 1}


def test_given_back_job_is_free_and_was_no_attempt(book: Book) -> None:
    assert book.give_back(lease(book, "one"), crashed=False)
    again = lease(book, "two")
    assert (again.attempts, again.crashes) == (1, 0)
    assert book.give_back(again, crashed=True)
    assert lease(book, "three").crashes == 1


def test_oldest_job_comes_first_and_ended_ones_cannot_be_cancelled(book: Book) -> None:
    book.enqueue("train", "b", {})
    first = lease(book, "one")
    assert first.id == "a"
    assert book.finish(first, NOW, "done")
    assert not book.cancel("a")
    assert not book.cancel("unknown")
    assert lease(book, "one").id == "b"
    assert book.counts() == {("train", "done"): 1, ("train", "running"): 1}


def test_jobs_of_a_process_that_is_gone_are_free_at_once(book: Book) -> None:
    host = leases.new_owner().split(":")[0]
    lease(book, f"{host}:999999999:1")
    book.enqueue("train", "b", {})
    lease(book, "elsewhere:999999999:1")
    assert book.reclaim(leases.vanished) == ["a"]
    assert lease(book, "me").id == "a"


def test_named_lease_has_one_holder(engine: Engine) -> None:
    def hold(owner: str, seconds: float = 30) -> bool:
        with writing(engine) as connection:
            return leases.hold(connection, "relay", owner, seconds)

    assert hold("a:1:1", -1)
    assert hold("b:1:1")
    assert hold("b:1:1")
    assert not hold("a:1:1")
    with writing(engine) as connection:
        leases.release(connection, "b:1:1")
    assert hold("a:1:1")
