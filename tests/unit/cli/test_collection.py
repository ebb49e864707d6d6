"""`noria gc` asks everybody who may name an artifact, deletes nothing unless all answer, and says what it did."""

import json
import os
from pathlib import Path
from typing import Any

import pytest

from contracts.topics import TOPICS
from services.chassis.retention.sweep import packed
from services.chassis.storage.artifacts import ArtifactStore
from services.cli import api, collection
from services.cli.app import run
from services.cli.collection import event_topics
from services.cli.errors import Unreachable
from services.cli.verbs import gc as verb


@pytest.fixture
def store(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> ArtifactStore:
    monkeypatch.setenv("NORIA_HOME", str(tmp_path))
    return ArtifactStore((tmp_path / "artifacts").as_uri(), tmp_path / "cache")


def old(store: ArtifactStore, tmp_path: Path, content: bytes) -> str:
    ref = store.put_bytes(content)
    os.utime(tmp_path / "artifacts" / "sha256" / ref.sha256[:2] / ref.sha256[2:], (1, 1))
    return ref.sha256


def gc(capsys: pytest.CaptureFixture[str], *arguments: str, status: int = 0) -> Any:
    assert run(["gc", *arguments, "--json"]) == status
    return json.loads(capsys.readouterr().out)


def test_the_topics_whose_events_name_artifacts_are_found_by_their_schemas() -> None:
    assert {topic for topic in event_topics() if not topic.endswith(".dlq")} == {
        "prep.dataset.frozen.v1",
        "trainer.model.trained.v1",
        "trainer.run.failed.v1",
        "evaluator.model.scored.v1",
        "registry.model.registered.v1",
        "registry.model.promoted.v1",
        "registry.evaluation.requested.v1",
    }
    assert "prep.dataset.frozen.v1.trainer.main.dlq" in event_topics()
    assert len(event_topics()) < len(TOPICS)


def test_nothing_goes_without_yes_and_with_it_what_nobody_names(
    store: ArtifactStore, tmp_path: Path, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    named, garbage, young = (
        old(store, tmp_path, b"named"),
        old(store, tmp_path, b"rest"),
        store.put_bytes(b"new").sha256,
    )
    monkeypatch.setattr(collection, "named", lambda: packed({named}))
    found = gc(capsys)
    assert (found["removes"], found["garbage"]["objects"], found["removed"]["objects"]) == (False, 1, 0)
    assert [each["sha256"] for each in found["largest"]] == [garbage]
    assert len(list(store.stored())) == 3
    done = gc(capsys, "--yes")
    assert (done["named"]["objects"], done["young"]["objects"], done["removed"]) == (1, 1, {"objects": 1, "bytes": 4})
    assert {each.sha256 for each in store.stored()} == {named, young}


def test_nothing_goes_where_somebody_does_not_answer(
    store: ArtifactStore, tmp_path: Path, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    old(store, tmp_path, b"perhaps named")

    def answers(service: str, path: str, **params: Any) -> Any:
        if service == "feedback":
            raise Unreachable("unreachable", "feedback does not answer")
        return {"items": [], "next": None}

    monkeypatch.setattr(api, "get", answers)
    assert gc(capsys, "--yes", status=1)["error"]["code"] == "unreachable"
    assert len(list(store.stored())) == 1


def test_rows_are_read_page_by_page_and_after_kafka_once_more(monkeypatch: pytest.MonkeyPatch) -> None:
    asked: list[str] = []

    def answers(service: str, path: str, **params: Any) -> Any:
        asked.append(f"{service} {params['after']}")
        first = params["after"] is None
        return {"items": ["a" * 64] if first else ["b" * 64], "next": "p2" if first else None}

    async def events(found: set[bytes]) -> None:
        asked.append("kafka")
        found |= packed({"c" * 64})

    monkeypatch.setattr(api, "get", answers)
    monkeypatch.setattr(collection, "_add_events", events)
    assert collection.named() == packed({"a" * 64, "b" * 64, "c" * 64})
    once = asked[: asked.index("kafka")]
    assert asked == [*once, "kafka", *once]
    assert "prep p2" in once


@pytest.mark.parametrize("arguments", [["--every", "7d"], ["--every", "soon", "--yes"], ["--every", "0d", "--yes"]])
def test_a_timer_that_cannot_be_is_refused(capsys: pytest.CaptureFixture[str], arguments: list[str]) -> None:
    assert gc(capsys, *arguments, status=2)["error"]


def test_a_timer_collects_when_the_last_collection_is_old_whoever_ran_it(
    store: ArtifactStore, tmp_path: Path, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    monkeypatch.setattr(collection, "named", lambda: set[bytes]())
    old(store, tmp_path, b"rest")
    assert verb.collect_when_due(3600.0, as_json=True) == 3600.0
    assert json.loads(capsys.readouterr().out)["removed"]["objects"] == 1
    old(store, tmp_path, b"more")
    assert 3500 < verb.collect_when_due(3600.0, as_json=True) < 3600
    assert (capsys.readouterr().out, len(list(store.stored()))) == ("", 1)
    assert verb.collect_when_due(1e-9, as_json=True) == 1e-9
    assert list(store.stored()) == []


def test_a_timer_that_cannot_ask_everybody_tries_again_soon(
    store: ArtifactStore, tmp_path: Path, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    def away() -> set[bytes]:
        raise Unreachable("unreachable", "prep does not answer")

    monkeypatch.setattr(collection, "named", away)
    old(store, tmp_path, b"perhaps named")
    assert verb.collect_when_due(7 * 86400.0, as_json=False) == verb.RETRY_SECONDS
    assert "prep does not answer; nothing was deleted" in capsys.readouterr().err
    assert len(list(store.stored())) == 1
