"""`noria review`: what waits, a key for each, an editor, and what a program gets."""

import json
from pathlib import Path
from typing import Any

import pytest
import typer

from services.cli.app import run
from tests.unit.cli.conftest import Services

HELD: dict[str, Any] = {
    "example_id": "feedback-r1",
    "project": "p",
    "source": "corrections",
    "status": "held",
    "reason": "contested",
    "detail": "2 say otherwise of the same question, 1 say so",
    "prompt": [{"role": "user", "content": "capital of France?"}],
    "good": "Lyon",
    "bad": None,
    "answered": "Paris",
    "request_id": "r1",
    "signal_id": "sig-1",
    "model": "p@1",
    "user": "4b3c",
    "said_at": "2026-01-31T12:00:00+00:00",
}


@pytest.fixture
def waiting(services: Services) -> Services:
    services.say("GET", "/v1/review", (200, {"items": [HELD], "next": None}))
    return services


@pytest.fixture
def terminal(monkeypatch: pytest.MonkeyPatch) -> Any:
    """Keys that a person at a terminal hits."""

    def hits(*keys: str) -> None:
        left = list(keys)
        monkeypatch.setattr(
            "sys.stdin", type("Terminal", (), {"isatty": lambda self: True, "readline": lambda self: "\n"})()
        )
        monkeypatch.setattr(typer, "getchar", lambda: left.pop(0))
        monkeypatch.setattr(typer, "prompt", lambda *_, **__: "wrong")

    return hits


def test_it_is_listed_and_shown(waiting: Services, capsys: pytest.CaptureFixture[str]) -> None:
    assert run(["review", "list", "p"]) == 0
    listed = " ".join(capsys.readouterr().out.split())
    assert "contested" in listed
    assert "capital of France?" in listed
    assert run(["review", "next"]) == 0
    shown = capsys.readouterr().out
    assert "held: contested: 2 say otherwise" in shown
    assert "answered: Paris\ngood: Lyon" in shown
    assert run(["review", "next", "--json"]) == 0
    assert json.loads(capsys.readouterr().out) == {"item": HELD}


@pytest.mark.parametrize(
    ("key", "verb", "more"), [("a", "accept", {}), ("r", "reject", {"note": "wrong"})], ids=["learn", "reject"]
)
def test_a_key_decides_on_what_was_seen(
    waiting: Services, terminal: Any, key: str, verb: str, more: dict[str, str]
) -> None:
    waiting.say("POST", f"/v1/review/feedback-r1/{verb}", (200, HELD))
    terminal("x", key)
    assert run(["review", "next", "--by", "rita"]) == 0
    [body] = [
        json.loads(body)
        for method, path, body in waiting.asked
        if (method, path) == ("POST", f"/v1/review/feedback-r1/{verb}")
    ]
    assert body == {"signal_id": "sig-1", "by": "rita"} | more


def test_an_editor_changes_the_answer(waiting: Services, monkeypatch: pytest.MonkeyPatch, tmp_path: Path) -> None:
    editor = tmp_path / "editor"
    editor.write_text("#!/bin/sh\nprintf 'Paris\\n' > \"$1\"\n")
    editor.chmod(0o755)
    monkeypatch.delenv("VISUAL", raising=False)
    monkeypatch.setenv("EDITOR", str(editor))
    waiting.say("GET", "/v1/review/feedback-r1", (200, HELD))
    waiting.say("POST", "/v1/review/feedback-r1/accept", (200, HELD))
    assert run(["review", "edit", "feedback-r1", "--by", "rita"]) == 0
    [body] = [
        json.loads(body)
        for method, path, body in waiting.asked
        if (method, path) == ("POST", "/v1/review/feedback-r1/accept")
    ]
    assert body == {"answer": "Paris", "signal_id": "sig-1", "by": "rita"}
    monkeypatch.setenv("EDITOR", "true")
    assert run(["review", "edit", "feedback-r1"]) == 2
    monkeypatch.setenv("EDITOR", "no-such-editor-here")
    assert run(["review", "edit", "feedback-r1"]) == 2


def test_nothing_waits(services: Services, capsys: pytest.CaptureFixture[str]) -> None:
    services.say("GET", "/v1/review", (200, {"items": [], "next": None}))
    assert run(["review", "next"]) == 0
    assert "nothing waits" in capsys.readouterr().out
