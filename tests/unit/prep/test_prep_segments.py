"""Records in segments: the same dataset wherever they lie, nothing lost or doubled, and what is missing is named."""

import json
from collections.abc import Callable
from pathlib import Path
from typing import Any

import pyarrow.parquet as pq
import pytest
from sqlalchemy import Engine, select

from contracts.types import ArtifactRef
from services.chassis.errors import JobFailed
from services.chassis.storage.artifacts import open_store
from services.chassis.storage.database import reading
from services.prep import handlers, segments, source, worker
from services.prep.domain.compaction import LIVE, MANY_SMALL, Segment, grouped, worn
from services.prep.settings import PrepSettings
from services.prep.tables import RECORD, SEGMENT
from tests.unit.prep.builders import Events, Opened

Handle = Callable[[Any], None]


@pytest.fixture
def settings(database_url: str, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> PrepSettings:
    values = {"HOME": tmp_path, "CACHE": tmp_path / "cache", "DATABASE": database_url, "SEGMENT_ROWS": 10}
    for name, value in values.items():
        monkeypatch.setenv(f"NORIA_PREP_{name}", str(value))
    return PrepSettings()


@pytest.fixture
def freeze(opened: Opened, events: Events, tmp_path: Path, settings: PrepSettings) -> Callable[[], dict[str, Any]]:
    """Asks for a freeze, does it and has its result taken in, as the service does."""

    def once() -> dict[str, Any]:
        revision = events.defined(base="tiny").revision
        with opened() as store:
            store.progress("p")
        with opened() as store:
            id_ = handlers.ask(store.progress("p"), store.positions("p"), revision, "policy", store)
            job = store.jobs.get(id_)
            assert job is not None
        result = json.loads(json.dumps(worker.run(job.spec | {"newest": None}, tmp_path, lambda _: None)))
        take_in(opened, job, result)
        return result

    return once


def take_in(opened: Opened, job: Any, result: dict[str, Any]) -> None:
    with opened() as store:
        handlers.on_freeze_done(store, job, result)


def lying(engine: Engine) -> tuple[list[int], int]:
    """How many records each segment holds newest, and how many lie in the tail."""
    with reading(engine) as connection:
        held = [segment.live for segment in segments.segments(connection, "p")]
        return held, segments.tail_rows(connection, "p")


def given(events: Events, begin: int, end: int, revision: int = 1) -> list[Any]:
    return [
        events.accepted(f"r{i:03}", f"w{i} x{i} y{i} of {revision}", revision, turn=str(revision))
        for i in range(begin, end)
    ]


def test_records_go_to_segments_and_come_back_to_the_tail_when_they_change(
    freeze: Any, handle: Handle, events: Events, engine: Engine, opened: Opened
) -> None:
    handle([events.defined(base="tiny"), *given(events, 0, 30)])
    first = freeze()
    assert lying(engine) == ([30], 0)
    assert freeze()["version"] == first["version"]
    handle([*given(events, 0, 4, 2), *given(events, 30, 35)])
    with opened() as store:
        progress = store.seen("p")
        assert progress is not None
        assert (store.changed("p", progress.frozen_positions), store.total("p")) == (9, 35)
    assert lying(engine) == ([26], 9)
    second = freeze()
    assert lying(engine) == ([26], 9)  # too few for a segment
    assert sum(second["counts"].values()) == 35
    handle(given(events, 35, 40))
    freeze()
    assert lying(engine) == ([26, 14], 0)
    handle(given(events, 0, 8, 3))
    with reading(engine) as connection:
        assert [s.live / s.rows < LIVE for s in segments.segments(connection, "p")] == [True, True]
    last = freeze()
    assert (sum(last["counts"].values()), lying(engine)) == (40, ([32], 8))


def test_a_long_tail_is_compacted_freeze_by_freeze(
    freeze: Any, handle: Handle, events: Events, engine: Engine, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(source, "FILE_BYTES", 1)  # a file a batch of the query
    monkeypatch.setattr(source, "AT_ONCE", 100)
    handle([events.defined(base="tiny"), *given(events, 0, 320)])
    first = freeze()
    assert lying(engine) == ([100], 220)
    assert {freeze()["version"] for _ in range(3)} == {first["version"]}
    live, tail = lying(engine)
    assert (sum(live), tail) == (320, 0)


def test_a_dataset_is_the_same_wherever_its_records_lie(
    freeze: Any, handle: Handle, events: Events, settings: PrepSettings, monkeypatch: pytest.MonkeyPatch
) -> None:
    handle([events.defined(base="tiny"), *given(events, 0, 25)])
    freeze()
    handle(given(events, 5, 12, 2))
    handle(given(events, 25, 27))
    mixed = freeze()
    monkeypatch.setenv("NORIA_PREP_SEGMENT_ROWS", "1")
    taken = freeze()
    whole = freeze()
    assert mixed["files"] == taken["files"] == whole["files"]
    assert not whole["segments"]["made"]


def test_what_came_as_another_shape_stays_beside_it(
    freeze: Any, handle: Handle, events: Events, settings: PrepSettings, engine: Engine
) -> None:
    sent = {"instruction": "do", "output": "done"}
    came = [
        event.model_copy(update={"shape": "alpaca", "sent": sent | {"input": str(i)}})
        for i, event in enumerate(given(events, 0, 12))
    ]
    handle([events.defined(base="tiny"), *came])
    [made] = freeze()["segments"]["made"]
    rows = pq.read_table(open_store(settings).get(ArtifactRef.model_validate(made["artifact"]))).to_pylist()
    assert sorted(json.loads(row["sent"])["input"] for row in rows) == sorted(map(str, range(12)))
    assert {row["shape"] for row in rows} == {"alpaca"}
    with reading(engine) as connection:
        assert set(connection.execute(select(RECORD.c.record, RECORD.c.sent))) == {("", None)}


def test_a_revision_that_came_while_a_freeze_ran_stays_in_the_tail(
    handle: Handle, events: Events, settings: PrepSettings, engine: Engine, opened: Opened, tmp_path: Path
) -> None:
    handle([events.defined(base="tiny"), *given(events, 0, 12)])
    with source.snapshot(engine) as connection:
        read = source.read(connection, "p", open_store(settings), tmp_path / "raw", 10)
    handle([*given(events, 3, 5, 2), *given(events, 12, 13)])
    with opened() as store:
        store.compact("p", read.made, read.gone)
    assert lying(engine) == ([10], 3)
    with reading(engine) as connection:
        kept = [row for rows in segments.tail(connection, "p") for row in rows]
    assert sorted((row.record_id, row.revision) for row in kept) == [("r003", 2), ("r004", 2), ("r012", 1)]
    assert all(json.loads(row.record) for row in kept)


def test_a_freeze_that_was_killed_or_failed_leaves_records_where_they_were(
    handle: Handle, events: Events, settings: PrepSettings, engine: Engine, tmp_path: Path, freeze: Any
) -> None:
    handle([events.defined(base="tiny"), *given(events, 0, 12)])
    with source.snapshot(engine) as connection:  # what it stored is named by nobody
        source.read(connection, "p", open_store(settings), tmp_path / "raw", 10)
    assert lying(engine) == ([], 12)
    assert sum(freeze()["counts"].values()) == 12
    assert lying(engine) == ([12], 0)


@pytest.mark.parametrize(("fault", "code"), [("missing", "segment_missing"), ("altered", "segment_altered")])
def test_a_segment_that_is_missing_or_altered_is_named_and_nothing_is_lost(
    freeze: Any, handle: Handle, events: Events, settings: PrepSettings, engine: Engine, fault: str, code: str
) -> None:
    handle([events.defined(base="tiny"), *given(events, 0, 12)])
    freeze()
    with reading(engine) as connection:
        [segment] = segments.segments(connection, "p")
    path = open_store(settings).get(segment.artifact)
    content = path.read_bytes()
    path.chmod(0o644)
    if fault == "missing":
        path.unlink()
    else:
        path.write_bytes(content[:-9] + b"otherwise")
    with pytest.raises(JobFailed) as failed:
        freeze()
    assert failed.value.code == code
    assert segment.artifact.sha256 in failed.value.detail.replace("/", "")
    path.write_bytes(content)
    assert sum(freeze()["counts"].values()) == 12


def test_segments_that_are_in_force_are_kept_from_collecting(freeze: Any, handle: Handle, events: Events) -> None:
    from services.prep.tables import artifact_references

    assert any(r.table is SEGMENT and r.since is None and r.condition is None for r in artifact_references())


def segment(number: int, rows: int, live: int, size: int) -> Segment:
    return Segment(number, ArtifactRef(uri="file:///x", sha256="0" * 64, bytes=1), rows, size, live)


def test_which_segments_are_written_anew() -> None:
    whole = [segment(i, 100, 100, 1000) for i in range(100)]
    assert worn(whole, 1000) == []
    assert [s.number for s in worn([*whole, segment(100, 100, 74, 1000), segment(101, 100, 75, 1000)], 1000)] == [100]
    small = [segment(200 + i, 10, 10, 100) for i in range(MANY_SMALL)]
    assert worn(small[1:], 1000) == []
    assert worn([*whole, *small], 1000) == small
    assert [[s.number for s in group] for group in grouped(small, 1000)] == [[*range(200, 210)], [*range(210, 216)]]
    assert [len(group) for group in grouped([segment(1, 1, 1, 5000), segment(2, 1, 1, 1)], 1000)] == [1, 1]
    assert worn([segment(1, 10, 0, 100)], 1000)[0].number == 1
