"""`noria outbox list|retry|discard`: which pages and numbers are asked of which service, and what is said of each."""

import json
from io import StringIO
from typing import Any

import pytest

from services.cli.app import run
from services.cli.login import login_name
from tests.conftest import free_port
from tests.unit.cli.conftest import PORTS, Services


def row(number: int) -> dict[str, Any]:
    return {
        "number": number, "topic": "t.v1", "key": "k", "event": f"e-{number}", "bytes": 9,
        "reason": "MessageSizeTooLargeError: [x]", "created_at": "2026-01-31T11:00:00+00:00",
    }  # fmt: skip


def said(capsys: pytest.CaptureFixture[str], *arguments: str) -> tuple[int, dict[str, Any]]:
    status = run([*arguments, "--json"])
    return status, json.loads(capsys.readouterr().out)


def posted(services: Services) -> list[tuple[str, Any]]:
    return [(path, json.loads(body)) for method, path, body in services.asked if method == "POST"]


def test_refused_events_of_every_service_are_listed_page_by_page(
    services: Services, capsys: pytest.CaptureFixture[str]
) -> None:
    last = {"items": [row(3)], "next": None}
    services.say("GET", "/outbox/refused", (200, {"items": [row(1), row(2)], "next": "c"}), (200, last))
    status, first = said(capsys, "outbox", "list", "--limit", "2")
    assert (status, first["next"]) == (0, f"{PORTS[0]}:c")
    assert [(r["service"], r["number"]) for r in first["items"]] == [(PORTS[0], 1), (PORTS[0], 2)]
    _, second = said(capsys, "outbox", "list", "--limit", "2", "--topic", "t.v1", "--after", first["next"])
    assert services.asked[1][1] == "/outbox/refused?limit=2&after=c&topic=t.v1"
    assert [r["service"] for r in second["items"]] == list(PORTS[:2])
    _, third = said(capsys, "outbox", "list", "--after", second["next"])
    assert ([r["service"] for r in third["items"]], third["next"]) == (list(PORTS[2:]), None)
    assert run(["outbox", "list", "--service", "prep"]) == 0
    shown = capsys.readouterr().out
    assert all(part in shown for part in ("prep", "t.v1", "MessageSizeTooLargeError: [x]", "2026-01-31"))


def test_events_are_retried_by_their_numbers_and_what_is_not_refused_is_told(
    services: Services, capsys: pytest.CaptureFixture[str]
) -> None:
    services.say("POST", "/outbox/retry", (200, {"resolved": [1]}))
    status, answer = said(capsys, "outbox", "retry", "prep", "1", "7", "--because", "limit raised")
    assert posted(services) == [
        ("/outbox/retry", {"numbers": [1, 7], "by": login_name(), "reason": "limit raised"}),
    ]
    assert (status, answer["items"]) == (
        1, [{"number": 1, "outcome": "retried"}, {"number": 7, "outcome": "not refused"}],
    )  # fmt: skip


def test_all_of_a_service_are_discarded_some_at_a_time(services: Services, capsys: pytest.CaptureFixture[str]) -> None:
    many = [{"items": [row(n) for n in range(100)], "next": "c"}, {"items": [row(100)], "next": None}]
    services.say("GET", "/outbox/refused", *((200, page) for page in many))
    services.say("POST", "/outbox/discard", (200, {"resolved": list(range(100))}), (200, {"resolved": [100]}))
    status, answer = said(capsys, "outbox", "discard", "prep", "--all")
    assert [body["numbers"] for _, body in posted(services)] == [list(range(100)), [100]]
    assert (status, {item["outcome"] for item in answer["items"]}) == (0, {"discarded"})


def test_a_dry_run_or_a_no_resolves_nothing(
    services: Services, capsys: pytest.CaptureFixture[str], monkeypatch: pytest.MonkeyPatch
) -> None:
    services.say("GET", "/outbox/refused", (200, {"items": [row(1)], "next": None}))
    status, answer = said(capsys, "outbox", "discard", "prep", "--topic", "t.v1", "--dry-run")
    assert (status, answer["items"]) == (0, [{"number": 1, "outcome": "would be discarded"}])
    monkeypatch.setattr("sys.stdin", StringIO("n\n"))
    assert run(["outbox", "discard", "prep", "1"]) == 130
    assert posted(services) == []


@pytest.mark.parametrize(
    ("arguments", "code"),
    [
        (("retry", "prep"), "which"),
        (("retry", "prep", "1", "--all"), "which"),
        (("discard", "nowhere", "--all"), "unknown_service"),
        (("list", "--service", "nowhere"), "unknown_service"),
        (("list", "--after", "x"), "invalid_cursor"),
    ],
)
def test_what_names_nothing_is_refused(
    services: Services, capsys: pytest.CaptureFixture[str], arguments: tuple[str, ...], code: str
) -> None:
    status, answer = said(capsys, "outbox", *arguments)
    assert (status, answer["error"]["code"], services.asked) == (2, code, [])


def test_a_service_that_does_not_answer_hides_no_other_ones_events(
    services: Services, capsys: pytest.CaptureFixture[str], monkeypatch: pytest.MonkeyPatch
) -> None:
    services.say("GET", "/outbox/refused", (200, {"items": [row(1)], "next": None}))
    monkeypatch.setenv("NORIA_PREP_PORT", str(free_port()))
    status, answer = said(capsys, "outbox", "list")
    assert (status, answer["unreachable"]) == (1, ["prep"])
    assert {r["service"] for r in answer["items"]} == set(PORTS) - {"prep"}
    status, answer = said(capsys, "outbox", "list", "--service", "prep")
    assert (status, "error" in answer) == (1, True)


def test_what_a_limit_left_is_told(services: Services, capsys: pytest.CaptureFixture[str]) -> None:
    services.say("GET", "/outbox/refused", (200, {"items": [row(1), row(2)], "next": "c"}))
    services.say("POST", "/outbox/discard", (200, {"resolved": [1, 2]}))
    status, answer = said(capsys, "outbox", "discard", "prep", "--all", "--limit", "2")
    assert (status, answer["more"], len(answer["items"])) == (0, True, 2)
