"""Old rows go in bounded batches by an index; within the horizon nothing is doubled, on SQLite and PostgreSQL."""

import asyncio
from collections.abc import Sequence
from datetime import UTC, datetime, timedelta

import pytest
from hypothesis import HealthCheck, given, settings
from hypothesis import strategies as st
from sqlalchemy import Engine, func, select, text, update
from sqlmodel import Session

from contracts.topics import FOR_EVER, TOPICS
from services.chassis.errors import SettingRefused
from services.chassis.jobs.queue import kept_checkpoints
from services.chassis.messaging import inbox
from services.chassis.messaging.batch import BatchContext, take
from services.chassis.messaging.kafka.topics import DEAD_LETTERS, refuse_short_inbox, retention, topics_of
from services.chassis.observability.metrics import Metrics
from services.chassis.retention import pruning
from services.chassis.retention.pruning import INBOX, JOB, Horizon, prune
from services.chassis.settings import Settings
from services.chassis.storage.database import reading, writing
from services.chassis.storage.tables import JobRow
from tests.unit.chassis.machines import empty
from tests.unit.chassis.records import ping
from tests.unit.chassis.test_batch import notes

DAYS = 10
HORIZON = Horizon(INBOX, INBOX.c.taken_at, timedelta(days=DAYS))
STEPS = st.lists(
    st.one_of(
        st.tuples(st.just("deliver"), st.integers(0, 3)),
        st.tuples(st.just("days pass"), st.integers(1, 7)),
        st.tuples(st.just("prune"), st.just(0)),
    ),
    max_size=25,
)


def taken(engine: Engine) -> int:
    with reading(engine) as connection:
        return connection.execute(select(func.count()).select_from(INBOX)).scalar_one()


def days_pass(engine: Engine, days: float) -> None:
    """What was taken was taken so much earlier."""
    with writing(engine) as connection:
        for row in connection.execute(select(INBOX)).mappings().all():
            own = [INBOX.c[name] == row[name] for name in ("consumer", "source", "id")]
            moment = row["taken_at"] - timedelta(days=days)
            connection.execute(update(INBOX).where(*own).values(taken_at=moment))


def prune_now(engine: Engine, limit: int = pruning.ROWS) -> int:
    with writing(engine) as connection:
        return prune(connection, HORIZON, datetime.now(UTC), limit)


def fill(engine: Engine, count: int, now: datetime) -> None:
    with writing(engine) as connection:
        inbox.take(connection, "tiny.main", {("up", f"{now} {n}"): n for n in range(count)}, now)


@given(steps=STEPS)
@settings(
    max_examples=25,
    deadline=None,
    database=None,
    derandomize=True,
    suppress_health_check=(HealthCheck.function_scoped_fixture, HealthCheck.too_slow),
)
def test_within_the_horizon_nothing_is_doubled_and_after_it_the_message_is_new(
    context: BatchContext, steps: Sequence[tuple[str, int]]
) -> None:
    empty(context.engine)
    age: dict[int, int] = {}
    effects: list[int] = []
    for what, value in steps:
        if what == "deliver":
            take(context, [ping(value)])
            if value not in age:
                effects.append(value)
                age[value] = 0
        elif what == "days pass":
            days_pass(context.engine, value)
            age = {number: days + value for number, days in age.items()}
        else:
            prune_now(context.engine)
            age = {number: days for number, days in age.items() if days < DAYS}
    assert sorted(notes(context.engine)) == sorted(effects)


def test_a_batch_is_bounded_and_takes_the_oldest_first(engine: Engine) -> None:
    now = datetime.now(UTC)
    fill(engine, 5, now - timedelta(days=DAYS + 2))
    fill(engine, 5, now - timedelta(days=DAYS + 1))
    fill(engine, 5, now - timedelta(days=DAYS - 1))
    assert prune_now(engine, limit=5) == 5
    with reading(engine) as connection:
        oldest = connection.execute(select(INBOX.c.taken_at).order_by(INBOX.c.taken_at).limit(1)).scalar_one()
        assert pruning.overdue(connection, HORIZON, now) == pytest.approx(86400, abs=1)
    assert oldest == now - timedelta(days=DAYS + 1)
    assert [prune_now(engine, limit=3) for _ in range(3)] == [3, 2, 0]
    assert taken(engine) == 5
    with reading(engine) as connection:
        assert pruning.overdue(connection, HORIZON, now) == 0


def test_the_old_rows_are_found_by_an_index(engine: Engine) -> None:
    now = datetime.now(UTC)
    taken, finished = INBOX.c.taken_at, JOB.c.finished_at
    queries = {
        "inbox_taken": select(taken).where(taken < now).order_by(taken).limit(5),
        "job_finished": select(finished).where(finished < now).order_by(finished).limit(5),
        "job_checkpoint": kept_checkpoints(now).limit(5),
    }
    for index, query in queries.items():
        with reading(engine) as connection:
            if engine.dialect.name == "postgresql":
                connection.execute(text("SET LOCAL enable_seqscan = off"))
            prefix = "EXPLAIN QUERY PLAN " if engine.dialect.name == "sqlite" else "EXPLAIN "
            literal = str(query.compile(engine, compile_kwargs={"literal_binds": True}))
            plan = "\n".join(str(row) for row in connection.execute(text(prefix + literal)))
        assert index in plan, plan
        assert "Sort" not in plan, plan
        assert "TEMP B-TREE" not in plan, plan


def test_two_instances_do_not_wait_for_each_other(engine: Engine) -> None:
    fill(engine, 4, datetime.now(UTC) - timedelta(days=DAYS + 1))
    if engine.dialect.name == "sqlite":
        return  # it has one writer
    with writing(engine) as first:
        assert prune(first, HORIZON, datetime.now(UTC), 3) == 3
        assert prune_now(engine) == 1
        fill(engine, 2, datetime.now(UTC))  # nor does consumption
    assert taken(engine) == 2


async def until_pruned(engine: Engine, metrics: Metrics, rules: Sequence[Horizon], left: int) -> None:
    work = asyncio.create_task(pruning.keep_pruning(engine, rules, metrics, every=0.01))
    async with asyncio.timeout(20):
        while await asyncio.to_thread(taken, engine) > left:  # noqa: ASYNC110 - no event tells what a database holds
            await asyncio.sleep(0.01)
    work.cancel()
    await asyncio.gather(work, return_exceptions=True)


def test_the_timer_goes_on_until_nothing_is_too_old(engine: Engine) -> None:
    fill(engine, 2 * pruning.ROWS + 10, datetime.now(UTC) - timedelta(days=61))
    fill(engine, 7, datetime.now(UTC) - timedelta(days=59))
    metrics = Metrics("tiny")
    asyncio.run(until_pruned(engine, metrics, pruning.horizons(Settings()), 7))
    assert taken(engine) == 7


def test_the_inbox_remembers_longer_than_kafka_may_bring_a_message_again() -> None:
    inbox_days = timedelta(days=Settings().inbox_days)
    refuse_short_inbox([topic.name for topic in TOPICS], inbox_days, {})
    assert max(topic.retention for topic in TOPICS) < inbox_days
    consumed = ["upstream.record.submitted.v1", "prep.dataset.frozen.v1"]
    with pytest.raises(SettingRefused, match=r"NORIA_INBOX_DAYS=30 is too short.*upstream.record.submitted.v1 for 30"):
        refuse_short_inbox(consumed, timedelta(days=30), {})
    with pytest.raises(SettingRefused, match=r"prep.dataset.frozen.v1 for 90"):
        refuse_short_inbox(consumed, inbox_days, {"prep.dataset.frozen.v1": 90})
    refuse_short_inbox(consumed, timedelta(days=8), {"upstream.record.submitted.v1": 7})


def test_topics_are_made_with_the_retention_that_the_settings_say() -> None:
    days = {"prep.dataset.frozen.v1": 2.0, DEAD_LETTERS: 1.0}
    made = {topic.name: topic.topic_configs["retention.ms"] for topic in topics_of("trainer", days)}
    assert made["prep.dataset.frozen.v1"] == str(2 * 86_400_000)
    assert made["prep.dataset.frozen.v1.trainer.main.dlq"] == str(86_400_000)
    assert made["trainer.model.trained.v1"] == "-1"
    assert retention("prep.dataset.frozen.v1.trainer.main.dlq") == FOR_EVER


def test_pruning_that_is_behind_rests_less_and_says_so_while_it_works(
    context: BatchContext, monkeypatch: pytest.MonkeyPatch
) -> None:
    assert pruning.rest(0.1, 0.0, timedelta(days=10)) == pytest.approx(0.4)
    assert pruning.rest(0.1, 0.9 * 86_400, timedelta(days=10)) == pytest.approx(0.4)
    assert pruning.rest(0.1, 1.1 * 86_400, timedelta(days=10)) == pytest.approx(0.1)
    engine, metrics = context.engine, Metrics("tiny")
    empty(engine)
    fill(engine, 30, datetime.now(UTC) - timedelta(days=DAYS + 3))
    monkeypatch.setattr(pruning, "ROWS", 10)
    monkeypatch.setattr(pruning.prune, "__defaults__", (10,))
    shown: list[float] = []

    async def rested(_: float) -> None:
        shown.append(metrics.prune_overdue.labels("inbox")._value.get())  # pyright: ignore[reportPrivateUsage]

    monkeypatch.setattr(pruning.asyncio, "sleep", rested)
    asyncio.run(pruning._prune_all(engine, HORIZON, metrics))  # pyright: ignore[reportPrivateUsage]
    assert taken(engine) == 0
    assert [round(late / 86_400) for late in shown] == [3, 3, 0]


def test_the_chassis_own_horizons_take_old_messages_and_jobs_that_are_over_long(context: BatchContext) -> None:
    now, kept = datetime.now(UTC), Settings()
    days = {"old": kept.job_days + 1, "recent": kept.job_days - 1, "waits": None}
    with writing(context.engine) as connection, Session(connection) as session:
        for name, ago in days.items():
            over = None if ago is None else now - timedelta(days=ago)
            session.add(JobRow(id=name, kind="k", spec={}, created_at=now - timedelta(days=500), finished_at=over))
        session.flush()
        inbox.take(connection, "tiny.main", {("up", "old"): 1}, now - timedelta(days=kept.inbox_days + 1))
        inbox.take(connection, "tiny.main", {("up", "recent"): 1}, now - timedelta(days=kept.inbox_days - 1))
        for rule in pruning.horizons(kept):
            prune(connection, rule, now)
        assert set(connection.execute(select(JOB.c.id)).scalars()) == {"recent", "waits"}
        assert set(connection.execute(select(INBOX.c.id)).scalars()) == {"recent"}
