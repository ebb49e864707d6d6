"""The book of jobs on both databases: one holder at a time, completion by the newest holder alone."""

from datetime import UTC, datetime, timedelta

import pytest
from sqlalchemy import Engine
from sqlmodel import Session

from services.chassis.jobs import leases
from services.chassis.jobs.failures import Failure, RetryPolicy
from services.chassis.jobs.job import Job
from services.chassis.jobs.queue import LONGEST_PAUSE, JobQueue
from services.chassis.storage.database import writing

NOW = datetime(2026, 1, 1, tzinfo=UTC)
LATER = NOW + timedelta(minutes=5)
CHECKPOINT = {"step": 3, "files": {"x": {"uri": f"file:///s/sha256/aa/{'a' * 62}", "sha256": "a" * 64, "bytes": 1}}}


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
    assert not book.give_back(first)
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
    assert book.give_back(lease(book, "one"))
    assert lease(book, "two").attempts == 1


def test_job_is_tried_again_not_before_its_time_and_shows_why(book: Book) -> None:
    at = NOW + timedelta(seconds=30)
    assert book.retry_later(lease(book, "one"), Failure("killed", "nul \x00"), at, failures=1, crashes=1)
    assert book.lease("train", "two", at - timedelta(seconds=1), 20) is None
    assert not book.any_free("train", at - timedelta(seconds=1), 20)
    waits = book.get("a")
    assert isinstance(waits, Job)
    assert (waits.status, waits.retry_at, waits.code, waits.detail) == ("queued", at, "killed", "nul \\x00")
    again = lease(book, "two", at)
    assert (again.attempts, again.failures, again.crashes, again.retry_at) == (2, 1, 1, None)


def test_a_pause_is_no_longer_than_the_setting_says(book: Book) -> None:
    ahead, longest = NOW + timedelta(minutes=10), timedelta(seconds=60)  # set by a clock that had jumped
    assert book.retry_later(lease(book, "one"), Failure("killed", ""), ahead, failures=1, crashes=1)
    assert book.any_free("train", NOW, 20, longest)
    assert book.lease("train", "two", NOW, 20, longest) is None
    assert not book.any_free("train", NOW, 20, longest)
    assert book.lease("train", "two", NOW + longest, 20, longest) is not None


def test_pause_is_cut_where_the_clock_was_set_back_and_ends_when_somebody_wishes(book: Book) -> None:
    assert book.retry_later(lease(book, "one"), Failure("killed", ""), NOW + timedelta(days=9), failures=1, crashes=1)
    assert book.any_free("train", NOW, 20)
    assert book.lease("train", "two", NOW, 20) is None
    assert book.lease("train", "two", NOW + LONGEST_PAUSE, 20) is not None
    book.enqueue("train", "b", {})
    assert not book.retry_now("b")
    assert book.retry_later(lease(book, "one"), Failure("killed", ""), LATER, failures=1, crashes=1)
    assert book.retry_now("b")
    assert lease(book, "one").id == "b"


def test_checkpoint_is_kept_with_the_job_and_lets_its_tries_count_anew(book: Book) -> None:
    assert book.retry_later(lease(book, "one"), Failure("killed", ""), NOW, failures=2, crashes=2)
    job = lease(book, "one")
    assert job.failures == 2
    kept = book.heartbeat(job, NOW, 20, None, CHECKPOINT)
    assert isinstance(kept, Job)
    assert (kept.failures, kept.crashes, kept.code, kept.checkpoint) == (0, 0, None, CHECKPOINT)
    assert book.finish(job, NOW, "failed", Failure("x", "y"))
    assert book.restart("a")
    again = lease(book, "two")
    assert (again.checkpoint, again.attempts, again.code) == (CHECKPOINT, 1, None)
    assert book.finish(again, NOW, "done")
    over = book.get("a")
    assert isinstance(over, Job)
    assert over.checkpoint is None


def test_checkpoints_of_ended_jobs_are_dropped_after_their_time(book: Book) -> None:
    job = lease(book, "one")
    assert book.heartbeat(job, NOW, 20, None, CHECKPOINT)
    assert book.drop_checkpoints(LATER) == []
    assert book.finish(job, NOW, "failed", Failure("x", "y"))
    assert book.drop_checkpoints(NOW) == []
    assert book.drop_checkpoints(LATER) == [CHECKPOINT]
    assert book.drop_checkpoints(LATER) == []


def test_waiting_job_is_cancelled_at_once_and_can_be_restarted(book: Book) -> None:
    assert not book.restart("a")
    ended = book.cancel_queued("a", Failure("cancelled", "by me"))
    assert isinstance(ended, Job)
    assert (ended.status, ended.detail, ended.finished_at is not None) == ("cancelled", "by me", True)
    assert book.lease("train", "one", LATER, 20) is None
    assert book.restart("a")
    job = lease(book, "one")
    assert not job.cancel
    assert book.cancel_queued("a", Failure("cancelled", "")) is None


def test_oldest_job_comes_first_and_ended_ones_cannot_be_cancelled(book: Book) -> None:
    book.enqueue("train", "b", {})
    first = lease(book, "one")
    assert first.id == "a"
    assert book.finish(first, NOW, "done")
    assert not book.cancel("a")
    assert not book.cancel("unknown")
    assert lease(book, "one").id == "b"
    assert book.counts() == {("train", "running"): 1}, "of those that are over the gauge tells nothing"


def test_jobs_of_a_process_that_is_gone_are_free_at_once(book: Book) -> None:
    host = leases.new_owner().split(":")[0]
    lease(book, f"{host}:999999999:1")
    book.enqueue("train", "b", {})
    lease(book, "elsewhere:999999999:1")
    policy = RetryPolicy(first_pause=10, longest_pause=10)
    assert book.reclaim(leases.vanished, NOW, policy) == ["a"]
    first = lease(book, f"{host}:999999999:1")
    assert (first.id, first.worker_losses) == ("a", 1)
    assert book.reclaim(leases.vanished, NOW, policy) == ["a"]
    found = book.lease("train", "me", NOW + timedelta(seconds=4), 20)
    assert found is None, "whose worker vanishes again and again waits"
    assert lease(book, "me", NOW + timedelta(seconds=10)).worker_losses == 2


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
