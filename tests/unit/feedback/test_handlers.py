import asyncio
import json
import shutil
from collections.abc import Generator, Iterator
from concurrent.futures import ThreadPoolExecutor
from contextlib import contextmanager
from dataclasses import asdict
from datetime import UTC, datetime, timedelta
from pathlib import Path
from typing import Any

import pytest
from sqlalchemy import Engine, text
from sqlmodel import Session

from contracts.envelope import new_meta
from contracts.events.feedback import ExampleReleasedV1, SignalRecordedV1, SignalRefusedV1
from contracts.events.registry import ProjectDefinedV1
from contracts.events.serving import InferenceCompletedV1, TeacherAnswer
from contracts.learning import Learning, Source
from contracts.project import ProjectSpec
from contracts.types import ModelRef
from services.chassis.context import Context
from services.chassis.observability.metrics import Metrics
from services.chassis.retention.pruning import prune
from services.chassis.storage.artifacts import open_store
from services.chassis.storage.database import open_engine, writing
from services.chassis.storage.migration import migrate
from services.feedback import handlers
from services.feedback.domain.records import Request
from services.feedback.domain.signals import Feedback, signals
from services.feedback.settings import FeedbackSettings
from services.feedback.store import Entry, SqlStore, horizons
from tests.conftest import wait_until_locked

NOW = datetime(2026, 1, 31, 12, tzinfo=UTC)
DEADLINE = timedelta(minutes=10)
MIGRATIONS = Path(handlers.__file__).parent / "migrations"
LEARN = Learning(approved=Source(weight=0))
DEFINED = ProjectDefinedV1(
    project="shell-copilot", revision="0" * 64, spec=ProjectSpec(project="shell-copilot", base="b", learn=LEARN)
)


@pytest.fixture
def engine(database_url: str, tmp_path: Path) -> Iterator[Engine]:
    engine = open_engine(FeedbackSettings(home=tmp_path, database=database_url))
    migrate(engine, "feedback", MIGRATIONS)
    with opened(engine) as store:
        store.projects.remember(DEFINED, NOW)
    yield engine
    engine.dispose()


@contextmanager
def opened(engine: Engine) -> Generator[SqlStore]:
    with writing(engine) as connection, Session(connection, expire_on_commit=False) as session:
        yield SqlStore(session)
        session.flush()


def inference(request_id: str = "r1", content: Any = "tar: list") -> InferenceCompletedV1:
    return InferenceCompletedV1(
        project="shell-copilot",
        request_id=request_id,
        model=ModelRef(name="shell-copilot", version=1),
        endpoint="chat.completions",
        messages=({"role": "user", "content": content},),
        output="tar\x00",
    )


def arrive(store: SqlStore, event: InferenceCompletedV1, at: datetime = NOW) -> list[object]:
    return list(handlers.on_inference_completed(event, new_meta(event, "urn:x", "1", time=at), store))


def test_feedback_on_a_teachers_answer_names_the_teacher(engine: Engine) -> None:
    """The request is read back from the database, the example too, which a reviewer sees."""
    teacher = TeacherAnswer(model="large-1", host="api.example.com", cost=0.01, currency="USD")
    with opened(engine) as store:
        arrive(store, inference().model_copy(update={"teacher": teacher}))
        arrive(store, inference("r2"))
    with opened(engine) as store:
        for request_id, named in (("r1", "large-1"), ("r2", None)):
            feedback = Feedback(request_id=request_id, correction="tar -t", user="u")
            _, (signal, *examples) = handlers.give(feedback, NOW, store)
            assert isinstance(signal, SignalRecordedV1)
            (example,) = examples
            assert isinstance(example, ExampleReleasedV1)
            assert (signal.teacher, example.teacher) == (named, named)
            kept = store.examples.get(f"feedback-{request_id}")
            assert kept is not None
            assert kept.example.teacher == named


def test_feedback_on_a_known_request_is_recorded_with_a_record(engine: Engine) -> None:
    with opened(engine) as store:
        assert arrive(store, inference()) == []
    with opened(engine) as store:
        entries, events = handlers.give(Feedback(request_id="r1", thumb="down", correction="tar -t"), NOW, store)
    assert [(e.signal.kind, e.status) for e in entries] == [("correction", "recorded"), ("thumb", "recorded")]
    correction, released, thumb = events
    assert isinstance(correction, SignalRecordedV1)
    assert isinstance(thumb, SignalRecordedV1)
    assert isinstance(released, ExampleReleasedV1)
    assert (released.example_id, released.source, released.record) == ("feedback-r1", "corrections", correction.record)
    assert (correction.project, correction.model.version, correction.record_id) == ("shell-copilot", 1, "feedback-r1")
    assert correction.record is not None
    assert correction.record.model_dump()["messages"][-1] == {"role": "assistant", "content": "tar -t"}
    assert (thumb.thumb, thumb.record, thumb.record_id) == ("down", None, None)


def test_a_record_brings_the_values_of_the_prompt_s_variables_as_tags(engine: Engine) -> None:
    """So that it is learnt behind the prompt that was answered."""
    given = {f"v{n}": "x" for n in range(60)} | {"origin": "mine"}
    with opened(engine) as store:
        arrive(store, inference().model_copy(update={"prompt_variables": given}))
    with opened(engine) as store:
        _, (correction, released, thumb) = handlers.give(
            Feedback(request_id="r1", thumb="up", correction="tar -t"), NOW, store
        )
    assert isinstance(correction, SignalRecordedV1)
    assert isinstance(thumb, SignalRecordedV1)
    assert isinstance(released, ExampleReleasedV1)
    assert (correction.prompt_variables, released.tags, thumb.prompt_variables) == (given, given, None)


def test_the_same_feedback_again_records_nothing_twice(engine: Engine) -> None:
    with opened(engine) as store:
        arrive(store, inference())
        first, _ = handlers.give(Feedback(request_id="r1", thumb="up"), NOW, store)
    with opened(engine) as store:
        second, events = handlers.give(Feedback(request_id="r1", thumb="up"), NOW + timedelta(seconds=1), store)
    assert first == second
    assert events == []


def test_early_feedback_waits_for_its_request(engine: Engine) -> None:
    with opened(engine) as store:
        entries, events = handlers.give(Feedback(request_id="r1", thumb="up", text="thanks"), NOW, store)
        assert ([e.status for e in entries], events) == (["waiting", "waiting"], [])
        assert arrive(store, inference("r2")) == []
    with opened(engine) as store:
        recorded = arrive(store, inference("r1"))
        assert {e.kind for e in recorded if isinstance(e, SignalRecordedV1)} == {"thumb", "text"}
        assert arrive(store, inference("r1")) == [], "a repeated inference event settles nothing again"
        entry = store.entry(entries[0].signal.signal_id)
        assert entry is not None
        assert (entry.status, entry.project) == ("recorded", "shell-copilot")


def test_feedback_whose_request_never_comes_is_refused_after_the_deadline(engine: Engine) -> None:
    with opened(engine) as store:
        [entry], _ = handlers.give(Feedback(request_id="none", score=0.5), NOW, store)
        assert handlers.settle_waiting(DEADLINE, store, NOW + DEADLINE) == []
        [event] = handlers.settle_waiting(DEADLINE, store, NOW + DEADLINE + timedelta(seconds=1))
        assert isinstance(event, SignalRefusedV1)
        assert (event.reason, event.request_id) == ("unknown_request", "none")
        assert handlers.settle_waiting(DEADLINE, store, NOW + 2 * DEADLINE) == []
        refused = store.entry(entry.signal.signal_id)
        assert refused is not None
        assert (refused.status, refused.reason) == ("refused", "unknown_request")


def test_a_request_that_shall_not_be_kept_is_none_that_feedback_is_about(engine: Engine) -> None:
    with opened(engine) as store:
        assert arrive(store, inference().model_copy(update={"stored": False, "messages": None, "output": ""})) == []
        assert store.request("r1") is None
        [entry], _ = handlers.give(Feedback(request_id="r1", correction="right"), NOW, store)
        assert entry.status == "waiting"


def test_feedback_that_did_not_see_its_request_waits_no_longer_than_to_the_next_look(engine: Engine) -> None:
    event = inference()
    request = Request(event.request_id, event.project, event.model, event.messages, event.prompt, event.output)
    with opened(engine) as store:
        handlers.give(Feedback(request_id="r1", thumb="up"), NOW, store)
        handlers.give(Feedback(request_id="r2", thumb="up"), NOW, store)
    with opened(engine) as store:
        store.remember(request, NOW)  # as by a transaction that began before the feedback was there
    with opened(engine) as store:
        [recorded] = handlers.settle_waiting(DEADLINE, store, NOW)
        assert isinstance(recorded, SignalRecordedV1)
        assert (recorded.request_id, recorded.thumb) == ("r1", "up")
    with opened(engine) as store:
        assert handlers.settle_waiting(DEADLINE, store, NOW) == []


def test_two_instances_that_look_at_the_same_moment_settle_once(engine: Engine) -> None:
    with opened(engine) as store:
        handlers.give(Feedback(request_id="none", thumb="up"), NOW, store)
    late = NOW + 2 * DEADLINE

    def look() -> int:
        with opened(engine) as store:
            return len(list(handlers.settle_waiting(DEADLINE, store, late)))

    with ThreadPoolExecutor() as pool:
        with opened(engine) as store:
            assert len(list(handlers.settle_waiting(DEADLINE, store, late))) == 1
            other = pool.submit(look)
            wait_until_locked(engine)
        assert other.result(20) == 0


def test_the_same_feedback_at_the_same_moment_is_taken_once(engine: Engine, tmp_path: Path) -> None:
    settings, feedback = FeedbackSettings(home=tmp_path), Feedback(request_id="r1", thumb="up")
    context = Context(settings, engine, SqlStore, open_store(settings), Metrics("feedback"))

    def again() -> list[Entry]:
        return asyncio.run(context.transact(lambda store: handlers.give(feedback, NOW, store)))

    with ThreadPoolExecutor() as pool:
        with opened(engine) as store:
            first, _ = handlers.give(feedback, NOW, store)
            second = pool.submit(again)
            wait_until_locked(engine)
        assert second.result(20) == first


def test_two_words_at_the_same_moment_follow_one_another(engine: Engine, tmp_path: Path) -> None:
    settings = FeedbackSettings(home=tmp_path)
    context = Context(settings, engine, SqlStore, open_store(settings), Metrics("feedback"))

    def other() -> list[Entry]:
        down = Feedback(request_id="r1", thumb="down")
        return asyncio.run(context.transact(lambda store: handlers.give(down, NOW, store)))

    with ThreadPoolExecutor() as pool:
        with opened(engine) as store:
            handlers.give(Feedback(request_id="r1", thumb="up"), NOW, store)
            second = pool.submit(other)
            wait_until_locked(engine)
        assert [entry.number for entry in second.result(20)] == [2]
    with opened(engine) as store:
        recorded = [event for event in arrive(store, inference()) if isinstance(event, SignalRecordedV1)]
    assert [signal.thumb for signal in recorded] == ["up", "down"]


def test_signals_of_before_know_their_order(database_url: str, tmp_path: Path) -> None:
    """A database of the first revision, in which one signal was kept for each content."""
    older = tmp_path / "older" / "versions"
    older.mkdir(parents=True)
    shutil.copy(MIGRATIONS / "versions" / "feedback_0001.py", older)
    engine = open_engine(FeedbackSettings(home=tmp_path, database=database_url))
    migrate(engine, "feedback", older.parent)
    row = (
        "INSERT INTO signal (signal_id, request_id, received_at, status, body)"
        " VALUES (:id, 'r1', :at, 'recorded', :body)"
    )
    given = [signals(Feedback.model_validate({"request_id": "r1", "thumb": thumb}))[0] for thumb in ("up", "down")]
    with writing(engine) as connection:
        for minute, signal in enumerate(given):
            at = f"2026-01-31 12:0{minute}:00.000000"
            values = {"id": signal.signal_id, "at": at, "body": json.dumps(asdict(signal))}
            connection.execute(text(row), values)
    migrate(engine, "feedback", MIGRATIONS)
    with opened(engine) as store:
        [repeat], _ = handlers.give(Feedback(request_id="r1", thumb="down"), NOW, store)
        [returned], _ = handlers.give(Feedback(request_id="r1", thumb="up"), NOW, store)
    engine.dispose()
    assert [repeat.signal.signal_id, repeat.number, returned.number] == [given[1].signal_id, 2, 3]
    assert returned.signal.signal_id not in {signal.signal_id for signal in given}


def test_refused_feedback_can_be_given_again_once_the_request_is_there(engine: Engine) -> None:
    feedback = Feedback(request_id="r1", thumb="up")
    with opened(engine) as store:
        handlers.give(feedback, NOW, store)
        list(handlers.settle_waiting(DEADLINE, store, NOW + 2 * DEADLINE))
        arrive(store, inference())
        [entry], events = handlers.give(feedback, NOW + 3 * DEADLINE, store)
    assert (entry.status, len(events)) == ("recorded", 1)


def test_a_correction_of_what_is_no_text_is_refused_with_the_reason(engine: Engine) -> None:
    with opened(engine) as store:
        arrive(store, inference(content=[{"type": "image_url"}]))
        [entry], [event] = handlers.give(Feedback(request_id="r1", correction="a cat"), NOW, store)
    assert isinstance(event, SignalRefusedV1)
    assert (entry.status, event.project, event.reason) == ("refused", "shell-copilot", "unsupported_content")


def test_old_requests_and_settled_signals_are_forgotten(engine: Engine) -> None:
    kept = FeedbackSettings(retention_days=30, signal_days=90)
    with opened(engine) as store:
        arrive(store, inference("old"), NOW - timedelta(days=31))
        arrive(store, inference("new"), NOW)
        for request, days in (("new", 91), ("waits", 91), ("new", 89)):
            thumb = Feedback(request_id=request, score=days / 100)
            handlers.give(thumb, NOW - timedelta(days=days), store)
    with writing(engine) as connection:
        rules = horizons(kept.retention, kept.signal_retention)
        assert [prune(connection, rule, NOW) for rule in rules] == [1, 1, 0, 0]
    with opened(engine) as store:
        assert store.request("old") is None
        assert store.request("new") is not None
        assert [(e.signal.request_id, e.status) for e in store.newest(None, None, 9)] == [
            ("new", "recorded"),
            ("waits", "waiting"),
        ]


def test_a_signal_outlives_its_request() -> None:
    assert FeedbackSettings(retention_days=200, signal_days=90).signal_retention == timedelta(days=200)


def test_signals_are_listed_newest_first_in_pages(engine: Engine) -> None:
    with opened(engine) as store:
        for i in range(3):
            handlers.give(Feedback(request_id=f"r{i}", thumb="up"), NOW + timedelta(seconds=i // 2), store)
        whole = [(e.received_at, e.signal.signal_id) for e in store.newest(None, None, 10)]
        assert whole == sorted(whole, reverse=True)
        at, signal_id = whole[0]
        rest = store.newest(None, (at, signal_id), 10)
        assert [(e.received_at, e.signal.signal_id) for e in rest] == whole[1:]
        assert [e.signal.request_id for e in store.newest("r1", None, 10)] == ["r1"]
