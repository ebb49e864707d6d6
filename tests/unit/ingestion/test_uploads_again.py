"""An upload that is sent again, mended or not, loses and doubles no line, wherever the one before broke off."""

import json
from collections.abc import Iterator
from datetime import timedelta
from pathlib import Path
from typing import Any

import pytest
from fastapi import FastAPI
from fastapi.testclient import TestClient

from contracts.events.registry import ProjectDefinedV1
from contracts.project import ProjectSpec
from services.chassis.http import guard, idempotency
from services.chassis.http.application import answer, install_errors
from services.ingestion import record_reader
from services.ingestion.http import make_router
from services.ingestion.settings import IngestionSettings
from tests.unit.chain import Link, message

URL = "/v1/projects/p/records"


class Ingestion(Link):
    """Ingestion behind its HTTP entrance; what it submits it takes."""

    def __init__(self, home: Path) -> None:
        super().__init__("ingestion", IngestionSettings(home=home), home)
        spec = ProjectSpec(project="p", base="b")
        self.take([message(ProjectDefinedV1(project="p", revision="0" * 64, spec=spec), "defined")])
        app = FastAPI()
        install_errors(app)
        guard.install(app, guard.Guard(self.context.settings), answer, make_router(self.context))
        self.client = TestClient(app, raise_server_exceptions=False)

    def upload(self, lines: list[str], key: str | None = "k") -> Any:
        """The answer to an upload of JSON lines."""
        headers = {"content-type": "application/x-ndjson"} | ({"idempotency-key": key} if key else {})
        return self.client.post(URL, content="\n".join(lines).encode(), headers=headers)

    def accepted(self) -> list[tuple[str, int, str]]:
        """(record id, revision, text) of what is accepted now of that which was submitted."""
        self.take(self.sent())
        events = [json.loads(each.value or b"") for each in self.sent() if each.topic == "ingestion.record.accepted.v1"]
        return [(event["record_id"], event["revision"], event["record"]["text"]) for event in events]


@pytest.fixture
def ingestion(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Iterator[Ingestion]:
    monkeypatch.setattr(record_reader, "BATCH_ITEMS", 2)
    made = Ingestion(tmp_path)
    yield made
    made.engine.dispose()


def lines(*texts: str) -> list[str]:
    return [json.dumps({"record_id": f"r{i}", "record": {"text": text}}) for i, text in enumerate(texts)]


BROKEN = [*lines("a", "b"), '{"record_id": "r2", "record": {"txt": "c"}}', *lines("", "", "", "d", "e")[3:]]
MENDED = lines("a", "B", "c", "d", "e")
WHOLE = [("r0", 1, "a"), ("r1", 2, "B"), ("r2", 1, "c"), ("r3", 1, "d"), ("r4", 1, "e")]


def test_same_key_with_a_mended_file_is_refused_and_with_a_new_key_no_line_is_lost(ingestion: Ingestion) -> None:
    """Under the same key the ids were repeated: lines behind the mended one died of id_conflict."""
    first = ingestion.upload(BROKEN)
    assert [refusal["line"] for refusal in first.json()["refused"]] == [3]
    before = ingestion.accepted()
    again = ingestion.upload(MENDED)
    assert (again.status_code, again.json()["error"]["code"]) == (422, "idempotency_key_reused")
    assert "send this body with a new key" in again.json()["error"]["message"]
    assert ingestion.sent() == []
    assert ingestion.upload(MENDED, "k2").status_code == 202
    latest = {name: (name, revision, text) for name, revision, text in before + ingestion.accepted()}
    assert [latest[f"r{i}"] for i in range(5)] == WHOLE


def test_file_of_which_nothing_was_taken_leaves_its_key_free(ingestion: Ingestion) -> None:
    assert ingestion.upload(['{"x": 1}', "{"]).json()["error"]["code"] == "all_refused"
    assert ingestion.upload(MENDED).status_code == 202
    assert [record[0] for record in ingestion.accepted()] == [f"r{i}" for i in range(5)]


@pytest.mark.parametrize("committed", [False, True])
@pytest.mark.parametrize("step", range(4))
def test_upload_that_broke_off_anywhere_is_whole_after_it_is_sent_again(
    ingestion: Ingestion, monkeypatch: pytest.MonkeyPatch, step: int, committed: bool
) -> None:
    """Steps: the key, and three batches of two, two and one lines; the crash comes before or after the commit."""
    calls = iter(range(100))
    transact = ingestion.context.transact

    async def crashing(*arguments: Any) -> Any:
        here = next(calls) == step
        if here and not committed:
            raise ConnectionError
        done = await transact(*arguments)
        if here:
            raise ConnectionError
        return done

    monkeypatch.setattr(ingestion.context, "transact", crashing)
    assert ingestion.upload(lines(*"abcde")).status_code == 500
    taken = ingestion.accepted()
    again = ingestion.upload(lines(*"abcde"))
    ids = [line["id"] for line in again.json()["accepted"]]
    taken += ingestion.accepted()
    assert sorted(taken) == [(f"r{i}", 1, text) for i, text in enumerate("abcde")]
    assert [line["id"] for line in ingestion.upload(lines(*"abcde")).json()["accepted"]] == ids
    assert ingestion.accepted() == []
    assert ingestion.rows("SELECT * FROM tally") == [], "the inbox drops what comes again, before it is looked at"


def test_key_whose_time_is_over_stands_for_a_new_upload(ingestion: Ingestion, monkeypatch: pytest.MonkeyPatch) -> None:
    """Its ids must be new ones: else the inbox would drop a file that returns to what it was."""
    ingestion.upload(lines("old"))
    ingestion.upload(lines("new"), None)
    assert ingestion.accepted() == [("r0", 1, "old"), ("r0", 2, "new")]
    monkeypatch.setattr(idempotency, "KEPT", timedelta(0))
    ingestion.upload(lines("old"))
    assert ingestion.accepted() == [("r0", 3, "old")]
