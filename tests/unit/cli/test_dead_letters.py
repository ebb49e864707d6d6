"""Which dead letters a filter means."""

from datetime import UTC, datetime, timedelta
from typing import Any

import pytest

from services.cli.dead_letters import Wanted, chosen, moment
from services.cli.errors import ConsoleError, Usage

NOW = datetime(2026, 1, 31, 12, tzinfo=UTC)


def letter(id: str, **parts: Any) -> dict[str, Any]:
    whole = {"topic": "a.b.c.v1", "reason": "not_json", "group": "g.main", "time": NOW.isoformat()}
    return {"id": id, "partition": 0, "offset": 0, **whole, **parts}


LETTERS = [
    letter("aaaa-1", time=(NOW - timedelta(hours=3)).isoformat()),
    letter("aaaa-2", reason="handler_failed"),
    letter("bbbb-1", topic="x.y.z.v1", group="h.main", time=(NOW - timedelta(hours=1)).isoformat()),
]


@pytest.mark.parametrize(
    ("wanted", "ids"),
    [
        (Wanted(), ["aaaa-1", "bbbb-1", "aaaa-2"]),
        (Wanted(topic="x.y.z.v1"), ["bbbb-1"]),
        (Wanted(reason="handler_failed"), ["aaaa-2"]),
        (Wanted(group="g.main", reason="not_json"), ["aaaa-1"]),
        (Wanted(since=NOW - timedelta(hours=2)), ["bbbb-1", "aaaa-2"]),
        (Wanted(until=NOW - timedelta(hours=1)), ["aaaa-1", "bbbb-1"]),
        (Wanted(ids=("bbbb", "aaaa-2", "bbbb-1")), ["bbbb-1", "aaaa-2"]),
        (Wanted(ids=("bbbb",), topic="a.b.c.v1"), []),
    ],
)
def test_filter_means_letters_that_fit_every_part(wanted: Wanted, ids: list[str]) -> None:
    assert [x["id"] for x in chosen(LETTERS, wanted)] == ids


@pytest.mark.parametrize(
    ("id", "error", "words"),
    [("aaa", Usage, "too short"), ("aaaa", ConsoleError, "2 dead letters begin"), ("cccc", ConsoleError, "no dead")],
)
def test_id_that_names_no_single_letter_is_refused(id: str, error: type[ConsoleError], words: str) -> None:
    with pytest.raises(error, match=words):
        chosen(LETTERS, Wanted(ids=(id,)))


def test_letter_without_a_time_fits_no_span() -> None:
    assert chosen([letter("aaaa-3", time="")], Wanted(since=NOW)) == []


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
