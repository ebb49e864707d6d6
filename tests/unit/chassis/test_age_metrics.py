"""Ages of parked messages and jobs on both databases, and of partitions that stand still."""

from datetime import UTC, datetime, timedelta

from aiokafka import TopicPartition
from sqlalchemy import Engine
from sqlmodel import Session

from services.chassis.jobs.failures import Failure
from services.chassis.jobs.queue import JobQueue
from services.chassis.messaging.batch import BatchContext, take
from services.chassis.observability import age_metrics
from services.chassis.storage.database import reading, writing
from tests.unit.chassis.records import ping

ONE, TWO = TopicPartition("t", 0), TopicPartition("t", 1)


def test_parked_age_is_that_of_the_oldest(context: BatchContext) -> None:
    with reading(context.engine) as connection:
        assert age_metrics.parked_age(connection, datetime.now(UTC)) == 0
    take(context, [ping(1, "wait", "/nowhere")])
    with reading(context.engine) as connection:
        assert 90 < age_metrics.parked_age(connection, datetime.now(UTC) + timedelta(seconds=95)) < 125


def test_jobs_tell_how_long_they_wait_and_when_they_last_gave_a_sign(engine: Engine) -> None:
    now = datetime.now(UTC)
    with writing(engine) as connection, Session(connection) as session:
        book = JobQueue(session)
        for name in ("a", "b"):
            book.enqueue("train", name, {})
        assert book.lease("train", "gone", now, 20) is not None
        again = book.lease("train", "here", now + timedelta(seconds=300), 20)
        assert again is not None
        session.flush()
    with reading(engine) as connection:
        found = age_metrics.job_ages(connection, now + timedelta(seconds=400), 20)
    assert set(found) == {"train"}
    assert 399 < found["train"].queued < 402
    assert 99 < found["train"].heartbeat < 101
    assert found["train"].attempts == again.attempts == 2


def test_a_partition_stands_still_only_while_something_lies_before_it() -> None:
    still = age_metrics.ConsumptionStalls()
    still.look({ONE: (5, 5), TWO: (3, 9)}, 100)
    still.look({ONE: (5, 6), TWO: (3, 20)}, 150)
    assert still.seconds(160) == {ONE: 10, TWO: 60}
    still.look({ONE: (6, 6), TWO: (4, 20)}, 170)
    assert still.seconds(175) == {TWO: 5}
    still.look({}, 180)
    assert still.seconds(190) == {}


def test_a_job_that_pauses_before_its_next_try_does_not_count_as_waiting_for_a_worker(engine: Engine) -> None:
    now = datetime.now(UTC)
    with writing(engine) as connection, Session(connection) as session:
        queue = JobQueue(session)
        queue.enqueue("train", "a", {})
        job = queue.lease("train", "me", now, 20)
        assert job is not None
        at = now + timedelta(seconds=600)
        assert queue.retry_later(job, Failure("store_unavailable", ""), at, failures=1, crashes=0)
    with reading(engine) as connection:
        assert age_metrics.job_ages(connection, now + timedelta(seconds=500), 20)["train"].queued == 0
        assert 99 < age_metrics.job_ages(connection, now + timedelta(seconds=700), 20)["train"].queued < 101
