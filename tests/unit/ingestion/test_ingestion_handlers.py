from collections.abc import Generator, Iterable, Iterator
from concurrent.futures import ThreadPoolExecutor
from contextlib import AbstractContextManager, contextmanager
from datetime import UTC, datetime, timedelta
from pathlib import Path
from typing import Any, Protocol

import pytest
from sqlmodel import Session

from contracts.envelope import Event, Meta
from contracts.events.feedback import SignalRecordedV1
from contracts.events.ingestion import RecordAcceptedV1, RecordRefusedV1
from contracts.events.registry import ProjectDefinedV1
from contracts.events.upstream import RecordSubmittedV1
from contracts.project import Ingest, ProjectSpec
from contracts.records import PlainText
from contracts.types import ModelRef
from services.chassis.storage.database import open_engine, writing
from services.chassis.storage.migration import migrate
from services.ingestion import handlers, restore
from services.ingestion.settings import IngestionSettings
from services.ingestion.store import CurrentRevision, SqlStore
from tests.conftest import wait_until_locked

NOW = datetime(2026, 1, 31, tzinfo=UTC)
MIGRATIONS = Path(handlers.__file__).parent / "migrations"


class Opened(Protocol):
    def __call__(self) -> AbstractContextManager[SqlStore]: ...


@pytest.fixture
def opened(database_url: str, tmp_path: Path) -> Iterator[Opened]:
    engine = open_engine(IngestionSettings(home=tmp_path, database=database_url))
    migrate(engine, "ingestion", MIGRATIONS)

    @contextmanager
    def open_store() -> Generator[SqlStore]:
        with writing(engine) as connection, Session(connection) as session:
            store = SqlStore(session)
            yield store
            store.flush()
            session.flush()

    yield open_store
    engine.dispose()


def meta(id: str) -> Meta:
    return Meta(id=id, source="urn:test", type="", time=NOW)


def defined(project: str = "p") -> ProjectDefinedV1:
    return ProjectDefinedV1(project=project, revision="0" * 64, spec=ProjectSpec(project=project, base="b"))


def handle(opened: Opened, event: Event, id: str = "1") -> list[Any]:
    with opened() as store:
        return list(handlers.HANDLERS[type(event)](event, meta(id), store))


def text(content: str, record_id: str = "r", **more: Any) -> RecordSubmittedV1:
    return RecordSubmittedV1(project="p", record_id=record_id, record={"text": content}, **more)


def test_a_record_is_accepted_with_its_revision_and_unchanged_content_makes_none(opened: Opened) -> None:
    handle(opened, defined())
    [first] = handle(opened, text("one"))
    assert isinstance(first, RecordAcceptedV1)
    assert (first.revision, first.format, first.record) == (1, "text", PlainText(text="one"))
    assert handle(opened, text("one"), "2") == []
    assert [e.revision for e in handle(opened, text("two"), "3")] == [2]
    assert [e.revision for e in handle(opened, text("one"), "4")] == [3]
    assert [e.revision for e in handle(opened, text("one", tags={"a": "b"}), "5")] == [4]
    with opened() as store:
        assert store.counts("p") == {
            "accepted": 4,
            "records": 1,
            "unchanged": 1,
            "not_sampled": 0,
            "refused": 0,
            "refused_by_reason": {},
        }


def test_an_invalid_record_is_refused_with_reason_detail_and_cause(opened: Opened) -> None:
    handle(opened, defined())
    wrong = RecordSubmittedV1(project="p", record_id="w", record={"question": "?"})
    [refused] = handle(opened, wrong, "w1")
    assert isinstance(refused, RecordRefusedV1)
    assert (refused.reason, refused.source, refused.source_id) == ("unknown_format", "urn:test", "w1")
    assert "messages" in refused.detail
    handle(opened, text(" "), "w2")
    with opened() as store:
        assert store.counts("p")["refused_by_reason"] == {"empty": 1, "unknown_format": 1}


def overdue(opened: Opened, now: datetime) -> list[Any]:
    with opened() as store:
        return list(handlers.refuse_overdue(store, now))


def test_a_record_of_an_unknown_project_waits_and_is_then_refused(opened: Opened) -> None:
    assert handle(opened, text("early"), "e1") == []
    assert overdue(opened, NOW) == []
    assert overdue(opened, NOW + handlers.PATIENCE - timedelta(seconds=1)) == []
    [refused] = overdue(opened, NOW + handlers.PATIENCE)
    assert (refused.reason, refused.record_id, refused.source_id) == ("unknown_project", "r", "e1")
    assert overdue(opened, NOW + timedelta(days=1)) == []


def test_two_instances_that_look_at_the_same_moment_refuse_once(opened: Opened) -> None:
    handle(opened, text("early"), "e1")
    assert overdue(opened, NOW) == []
    late = NOW + handlers.PATIENCE
    with ThreadPoolExecutor() as pool:
        with opened() as store:
            assert len(list(handlers.refuse_overdue(store, late))) == 1
            other = pool.submit(overdue, opened, late)
            wait_until_locked(store.session.connection().engine)
        assert other.result(20) == []


def test_records_that_came_before_their_project_are_taken_in_their_order(opened: Opened) -> None:
    for i, content in enumerate(("one", "two")):
        assert handle(opened, text(content), str(i)) == []
    taken: Iterable[Any] = handle(opened, defined(), "d")
    assert [(e.revision, e.record.text) for e in taken] == [(1, "one"), (2, "two")]
    assert overdue(opened, NOW + timedelta(days=1)) == []


def test_a_correction_is_accepted_with_its_request(opened: Opened) -> None:
    handle(opened, defined())
    signal = SignalRecordedV1(
        project="p",
        signal_id="s",
        request_id="q1",
        model=ModelRef(name="p", version=1),
        kind="correction",
        record_id="feedback-q1",
        record=PlainText(text="better"),
    )
    [accepted] = handle(opened, signal)
    assert accepted.tags == {"origin": "feedback", "request_id": "q1"}
    assert handle(opened, signal.model_copy(update={"record": None}), "2") == []
    [refused] = handle(opened, signal.model_copy(update={"record_id": "x" * 300}), "3")
    assert refused.reason == "invalid_field"


def test_plain_columns_are_read_as_the_project_says_now(opened: Opened) -> None:
    faq = RecordSubmittedV1(project="p", record_id="f", record={"question": "q", "answer": "a", "topic": "tar"})
    handle(opened, defined())
    assert [e.reason for e in handle(opened, faq, "1")] == ["unknown_format"]
    columns = Ingest.model_validate({"columns": {"prompt": "question", "completion": "answer"}})
    mapped = defined().model_copy(update={"revision": "1" * 64, "sequence": 2})
    mapped = mapped.model_copy(update={"spec": mapped.spec.model_copy(update={"ingest": columns})})
    with opened() as store:
        assert store.policy("p").columns is None
        list(handlers.on_project_defined(mapped, meta("d2"), store))
        assert store.policy("p").columns == columns.columns
    [accepted] = handle(opened, faq, "2")
    assert (accepted.shape, accepted.sent, accepted.tags) == ("prompt_completion", faq.record, {"topic": "tar"})
    assert accepted.record.model_dump() == {"prompt": "q", "completion": "a"}
    with opened() as store:
        assert store.current("p", "f") == restored(accepted, store)


def restored(accepted: RecordAcceptedV1, store: SqlStore) -> CurrentRevision | None:
    """What ingestion's own event alone brings back."""
    other = accepted.model_copy(update={"record_id": "again"})
    list(restore.on_record_accepted(other, meta("x"), store))
    return store.current("p", "again")
