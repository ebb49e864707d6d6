"""Which dead letters a filter means, in an index that grows with what is new and is never read whole."""

import sqlite3
from collections.abc import Iterator
from datetime import UTC, datetime, timedelta
from pathlib import Path
from typing import Any

import pytest

from services.cli.dead_letter_index import DeadLetterIndex
from services.cli.dead_letters import DeadLetterFilter, moment
from services.cli.errors import ConsoleError, Usage

NOW = datetime(2026, 1, 31, 12, tzinfo=UTC)
KEPT = ("a.b.c.v1.g.main.dlq", 0)
AUDIT = ("console.letter.settled.v1", 0)


def letter(id: str, **parts: Any) -> dict[str, Any]:
    whole = {"topic": "a.b.c.v1", "reason": "not_json", "group": "g.main", "time": NOW.isoformat()}
    return {"id": id, "partition": 0, "offset": 0, **whole, **parts}


LETTERS = [
    letter("aaaa-1", time=(NOW - timedelta(hours=3)).isoformat()),
    letter("aaaa-2", reason="handler_failed"),
    letter("bbbb-1", topic="x.y.z.v1", group="h.main", time=(NOW - timedelta(hours=1)).isoformat()),
]
DONE = {"action": "discarded", "by": "me", "at": NOW.isoformat(), "reason": "noise"}


@pytest.fixture
def index(tmp_path: Path) -> Iterator[DeadLetterIndex]:
    index = DeadLetterIndex(tmp_path / "letters.db")
    index.add_dead_letters(KEPT, 3, enumerate(LETTERS))
    yield index
    index.close()


def ids(index: DeadLetterIndex, wanted: DeadLetterFilter, *, open_only: bool = True) -> list[str]:
    found, following = index.page(wanted, 100, open_only=open_only)
    assert following is None
    assert index.count(wanted, open_only=open_only) == len(found)
    return [letter["id"] for letter in found]


@pytest.mark.parametrize(
    ("wanted", "meant"),
    [
        (DeadLetterFilter(), ["aaaa-2", "bbbb-1", "aaaa-1"]),
        (DeadLetterFilter(topic="x.y.z.v1"), ["bbbb-1"]),
        (DeadLetterFilter(reason="handler_failed"), ["aaaa-2"]),
        (DeadLetterFilter(group="g.main", reason="not_json"), ["aaaa-1"]),
        (DeadLetterFilter(since=NOW - timedelta(hours=2)), ["aaaa-2", "bbbb-1"]),
        (DeadLetterFilter(until=NOW - timedelta(hours=1)), ["bbbb-1", "aaaa-1"]),
        (DeadLetterFilter(ids=("bbbb-1", "aaaa-2")), ["aaaa-2", "bbbb-1"]),
        (DeadLetterFilter(ids=("bbbb-1",), topic="a.b.c.v1"), []),
    ],
)
def test_filter_means_letters_that_fit_every_part_newest_first(
    index: DeadLetterIndex, wanted: DeadLetterFilter, meant: list[str]
) -> None:
    assert ids(index, wanted) == meant


@pytest.mark.parametrize(
    ("id", "error", "words"),
    [
        ("aaa", Usage, "too short"),
        ("aaaa", ConsoleError, "several dead letters begin"),
        ("cccc", ConsoleError, "no dead"),
        ("%%%%", ConsoleError, "no dead"),
    ],
)
def test_id_that_names_no_single_letter_is_refused(
    index: DeadLetterIndex, id: str, error: type[ConsoleError], words: str
) -> None:
    with pytest.raises(error, match=words):
        index.resolve([id])


def test_an_id_or_its_beginning_names_a_letter_once(index: DeadLetterIndex) -> None:
    assert index.resolve(["bbbb", "aaaa-2", "bbbb-1"]) == ("bbbb-1", "aaaa-2")


def test_letter_without_a_time_fits_no_span(index: DeadLetterIndex) -> None:
    index.add_dead_letters(KEPT, 4, [(3, letter("cccc-1", time=""))])
    assert "cccc-1" not in ids(index, DeadLetterFilter(until=NOW))
    assert "cccc-1" in ids(index, DeadLetterFilter())


def test_a_settled_letter_is_open_no_more_whichever_is_read_first(index: DeadLetterIndex) -> None:
    later = {**DONE, "action": "redriven"}
    index.add_fates(AUDIT, 3, [("aaaa-2", DONE), ("dddd-1", DONE), ("aaaa-2", later)])
    index.add_dead_letters(KEPT, 5, [(4, letter("dddd-1"))])
    assert ids(index, DeadLetterFilter()) == ["bbbb-1", "aaaa-1"]
    settled = {x["id"]: x["settled"] for x in index.page(DeadLetterFilter(), 9, open_only=False)[0]}
    assert settled == {"dddd-1": DONE, "aaaa-2": DONE, "bbbb-1": None, "aaaa-1": None}


def test_a_letter_that_came_twice_counts_once(index: DeadLetterIndex) -> None:
    index.add_dead_letters(KEPT, 5, [(4, LETTERS[0])])
    assert index.count(DeadLetterFilter(), open_only=True) == 3


def test_pages_meet_without_gap_or_repetition(index: DeadLetterIndex) -> None:
    same_time = [(10 + n, letter(f"eeee-{n}")) for n in range(7)]
    index.add_dead_letters(KEPT, 20, same_time)
    seen: list[str] = []
    after = None
    while True:
        found, after = index.page(DeadLetterFilter(), 3, after, open_only=True)
        seen += [x["id"] for x in found]
        if after is None:
            break
    assert seen == ids(index, DeadLetterFilter())
    assert len(seen) == 10


def test_the_index_goes_on_where_it_stood(index: DeadLetterIndex, tmp_path: Path) -> None:
    again = DeadLetterIndex(tmp_path / "letters.db")
    assert again.places() == {KEPT: 3}
    again.add_dead_letters(KEPT, 2, [])  # a second process was slower
    assert index.places() == {KEPT: 3}
    again.close()


def test_what_kafka_deleted_leaves_the_index(index: DeadLetterIndex) -> None:
    index.forget(*KEPT, 2)
    assert ids(index, DeadLetterFilter()) == ["bbbb-1"]
    index.clear(*KEPT)
    assert index.places() == {}
    assert ids(index, DeadLetterFilter()) == []


def test_a_list_reads_an_index_and_not_history(index: DeadLetterIndex, tmp_path: Path) -> None:
    statements: list[str] = []
    database: sqlite3.Connection = getattr(index, "_database")  # noqa: B009
    database.set_trace_callback(statements.append)
    index.page(DeadLetterFilter(), 10, (NOW.timestamp(), "zzzz"), open_only=True)
    index.page(DeadLetterFilter(since=NOW), 10, open_only=False)
    index.resolve(["bbbb"])
    index.forget(*KEPT, 0)
    index.count(DeadLetterFilter(), open_only=True)
    database.set_trace_callback(None)
    looked = [sql for sql in statements if "FROM letter" in sql]
    assert len(looked) == 5
    for sql in looked:
        plan = "; ".join(row[3] for row in database.execute(f"EXPLAIN QUERY PLAN {sql}"))
        assert "INDEX" in plan, (sql, plan)
        assert "TEMP B-TREE" not in plan, (sql, plan)


@pytest.mark.parametrize(
    ("raw", "at"),
    [
        (None, None),
        ("2h", NOW - timedelta(hours=2)),
        ("90s", NOW - timedelta(seconds=90)),
        ("7d", NOW - timedelta(days=7)),
        ("2026-01-31T12:00:00Z", NOW),
        ("2026-01-31T13:00:00+01:00", NOW),
        ("2026-01-31", NOW.replace(hour=0)),
    ],
)
def test_moment_is_a_time_or_how_long_ago(raw: str | None, at: datetime | None) -> None:
    assert moment(raw, NOW) == at


@pytest.mark.parametrize("raw", ["yesterday", "2", "h2", "99999999999d", ""])
def test_what_is_no_moment_is_refused(raw: str) -> None:
    with pytest.raises(Usage):
        moment(raw, NOW)
