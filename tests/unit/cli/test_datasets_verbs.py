"""`noria datasets show`: what is asked of prep, and what is said."""

import json
from typing import Any
from urllib.parse import parse_qs, urlsplit

import pytest

from services.cli.app import run
from tests.unit.cli.conftest import Services

ROW: dict[str, Any] = {
    "split": "train",
    "record_id": "r1",
    "tags": {"tool": "tar"},
    "record": {"messages": [{"role": "user", "content": "list [it]"}, {"role": "assistant", "content": "tar -t"}]},
}
DROP: dict[str, Any] = {
    "record_id": "twin",
    "reason": "duplicate",
    "because_of": "r1",
    "tags": {},
    "record": {"prompt": [{"role": "user", "content": "q"}], "chosen": "a", "rejected": "b"},
}


def said(capsys: pytest.CaptureFixture[str], *arguments: str) -> tuple[int, str]:
    status = run(list(arguments))
    captured = capsys.readouterr()
    return status, captured.out + captured.err


def test_rows_are_shown_behind_filters(services: Services, capsys: pytest.CaptureFixture[str]) -> None:
    services.say("GET", "/v1/datasets/p/1/rows", (200, {"items": [ROW], "next": "more"}))
    call = ("datasets", "show", "p@1", "--split", "train", "--where", "tags.tool = tar", "--where", "revision = 1")
    status, text = said(capsys, *call, "--limit", "1")
    assert status == 0
    assert all(part in text for part in ("train", "r1", "tool tar", "list [it] → tar -t", "more than 1"))
    asked = parse_qs(urlsplit(services.asked[-1][1]).query)
    assert asked == {"limit": ["1"], "split": ["train"], "where": ["tags.tool = tar", "revision = 1"]}
    assert run([*call, "--limit", "1", "--json"]) == 0
    assert json.loads(capsys.readouterr().out) == {"items": [ROW], "next": "more"}


def test_what_was_left_out_is_shown(services: Services, capsys: pytest.CaptureFixture[str]) -> None:
    services.say("GET", "/v1/datasets/p/1/drops", (200, {"items": [DROP], "next": None}))
    status, text = said(capsys, "datasets", "show", "p@1", "--drops")
    assert status == 0
    assert all(part in text for part in ("twin", "duplicate", "r1", "q → a → b"))


def test_a_dataset_is_named_by_project_and_number(capsys: pytest.CaptureFixture[str]) -> None:
    status, text = said(capsys, "datasets", "show", "p")
    assert (status, "give PROJECT@NUMBER" in text) == (2, True)
