"""A model that is opened in a thread: what is said of it meanwhile, when it cannot be, and when it is no longer wanted."""

import asyncio
import json
import threading
import time
from pathlib import Path
from types import SimpleNamespace
from typing import Any

import pytest

from services.serving.triton import client
from services.serving.triton.backend.opening import NotOpen, Opening
from services.serving.triton.status import read_opening

NOWHERE: Any = None


class Model:
    """What is opened once it may be."""

    def __init__(self) -> None:
        self.may, self.stopped, self.summary = threading.Event(), threading.Event(), "tiny"
        self.engine = SimpleNamespace(status=lambda: {"steps": 7}, stop=self.stopped.set)

    def open(self) -> Any:
        assert self.may.wait(10)
        return self


def test_what_is_being_opened_says_so_until_it_answers() -> None:
    model, said = Model(), list[str]()
    opening = Opening(model.open, said.append, said.append)
    with pytest.raises(NotOpen, match="is not ready: it is being loaded"):
        opening.served()
    assert read_opening(json.dumps(opening.status())) is not None
    model.may.set()
    until(lambda: said)
    assert (opening.served(), said) == (model, ["tiny"])
    assert read_opening(json.dumps(opening.status())) is None
    opening.stop()
    assert model.stopped.is_set()


def test_what_cannot_be_opened_says_why() -> None:
    said: list[str] = []

    def open() -> Any:
        return int("x")

    opening = Opening(open, said.append, said.append)
    until(lambda: said)
    with pytest.raises(NotOpen, match="invalid literal"):
        opening.served()
    found = read_opening(json.dumps(opening.status()))
    assert found
    assert (found.failure, said) == (said[0], [found.failure])


def test_what_is_stopped_before_it_is_open_ends_as_soon_as_it_is() -> None:
    model = Model()
    opening = Opening(model.open, lambda _: None, lambda _: None)
    opening.stop()
    model.may.set()
    assert model.stopped.wait(10)


def test_a_load_ends_when_the_backend_has_opened_the_model(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    said = [{"opening": True, "failure": None}, {"opening": True, "failure": None}, {"steps": 1}]
    tell(monkeypatch, said)
    asyncio.run(client.loaded(NOWHERE, "m.1", tmp_path))
    assert not said


def test_a_backend_that_does_not_tell_has_loaded_what_triton_calls_ready(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    tell(monkeypatch, [None])
    asyncio.run(client.loaded(NOWHERE, "m.1", tmp_path))


def test_a_load_that_the_backend_gave_up_fails_with_its_reason(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    tell(monkeypatch, [{"opening": False, "failure": "OSError: no weights"}])
    with pytest.raises(client.Failed, match=r"m\.1 cannot be loaded: OSError: no weights"):
        asyncio.run(client.loaded(NOWHERE, "m.1", tmp_path))


def tell(monkeypatch: pytest.MonkeyPatch, said: list[Any]) -> None:
    """Lets Triton call the model ready and its backend say these, one after the other."""

    async def states(_: Any) -> dict[str, tuple[str, str]]:
        return {"m.1": ("READY", "")}

    async def text(*_: Any) -> str | None:
        answer = said.pop(0)
        return None if answer is None else json.dumps(answer)

    monkeypatch.setattr(client, "states", states)
    monkeypatch.setattr(client, "_status_text", text)


def until(true: Any) -> None:
    deadline = time.monotonic() + 10
    while not true():
        assert time.monotonic() < deadline
        time.sleep(0.01)
