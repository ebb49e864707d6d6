from pathlib import Path
from typing import Any

from fastapi.testclient import TestClient

from services.chassis.jobs.queue import Failure
from services.chassis.storage.artifacts import open_store
from services.prep import handlers
from services.prep.settings import PrepSettings
from tests.unit.prep.builders import NOW, Events, Opened


def freeze(opened: Opened, tmp_path: Path, job: str, version: str, **more: Any) -> None:
    artifacts = open_store(PrepSettings(home=tmp_path))
    ref = artifacts.put_bytes(b"<p>page</p>").model_dump()
    files = dict.fromkeys(("train", "validation", "held_out"), ref)
    with opened() as store:
        result = {
            "version": version * 64,
            "through": store.positions("p"),
            "files": files,
            "counts": {"train": 3},
            "drops": {},
        }
        found = store.jobs.get(job)
        assert found is not None
        handlers.on_freeze_done(
            store, found, result | more | {"profile": ref, "report": ref, "frozen_at": NOW.isoformat()}
        )


def test_what_waits_is_shown_with_its_side(client: TestClient, handle: Any, events: Events) -> None:
    handle([events.defined(), *(events.accepted(f"r{i}", str(i), request_id=str(i)) for i in range(25))])
    pending = client.get("/v1/projects/p/pending").json()
    assert (pending["changed"], pending["total"], len(pending["records"])) == (25, 25, 20)
    newest = pending["records"][0]
    assert (newest["record_id"], newest["revision"], newest["tags"]) == ("r24", 1, {"request_id": "24"})
    assert newest["split"] in ("train", "validation", "held_out")
    assert newest["accepted_at"].startswith("2026-01-31T00:00:00")
    assert pending["next_freeze"].startswith("after 475 more")


def test_a_freeze_on_demand_and_its_dataset(
    client: TestClient, handle: Any, events: Events, opened: Opened, tmp_path: Path
) -> None:
    handle([events.defined(), *(events.accepted(f"r{i}", str(i)) for i in range(3))])
    asked = client.post("/v1/projects/p/freeze")
    assert (asked.status_code, asked.json()) == (202, {"job": "freeze-p-1"})
    assert client.get("/v1/projects/p/pending").json()["next_freeze"] == "now: freeze-p-1 is queued"
    kinds = {"train": {"prompt_completion": 2, "preference": 1}, "validation": {}, "held_out": {"prompt_only": 1}}
    freeze(opened, tmp_path, "freeze-p-1", "a", kinds=kinds)
    newest = client.get("/v1/projects/p/pending").json()["newest"]
    assert newest == {"number": 1, "method": "sft", "kinds": kinds["train"], "unusable": {"preference": 1}}
    again = client.post("/v1/projects/p/freeze")
    assert (again.status_code, again.json()["unchanged"]) == (200, True)
    shown = client.get("/v1/datasets/p/1").json()
    assert again.json()["dataset"] == shown
    assert (shown["kinds"], shown["unusable"]) == (kinds, {"preference": 1})
    assert (shown["version"], shown["counts"], shown["cause"]) == ("a" * 64, {"train": 3}, "on_demand")
    report = client.get("/v1/datasets/p/1/report")
    assert report.text == "<p>page</p>"
    assert "default-src 'none'" in report.headers["content-security-policy"]


def test_datasets_come_in_pages_newest_first(
    client: TestClient, handle: Any, events: Events, opened: Opened, tmp_path: Path
) -> None:
    handle([events.defined(), events.accepted("r", "1")])
    for i in range(3):
        handle([events.accepted("r", str(i), i + 2)])
        freeze(opened, tmp_path, client.post("/v1/projects/p/freeze").json()["job"], str(i))
    first = client.get("/v1/datasets", params={"limit": 2}).json()
    assert [d["number"] for d in first["items"]] == [3, 2]
    second = client.get("/v1/datasets", params={"limit": 2, "after": first["next"], "project": "p"}).json()
    assert [d["number"] for d in second["items"]] == [1]
    assert second["next"] is None
    assert client.get("/v1/datasets", params={"after": "bm8"}).status_code == 400
    assert client.get("/v1/datasets", params={"after": "WzFd"}).json()["error"]["code"] == "invalid_cursor"


def test_a_failure_is_where_people_look(client: TestClient, handle: Any, events: Events, opened: Opened) -> None:
    handle([events.defined(), events.accepted("r", "1")])
    client.post("/v1/projects/p/freeze")
    with opened() as store:
        job = store.jobs.get("freeze-p-1")
        assert job is not None
        handlers.on_freeze_failed(store, job, Failure("empty_dataset", "nothing is left to train on"))
    [failure] = client.get("/v1/datasets").json()["failures"]
    assert (failure["project"], failure["code"]) == ("p", "empty_dataset")
    assert client.get("/v1/projects/p/pending").json()["failure"]["detail"] == "nothing is left to train on"


def test_what_is_not_there_is_said(client: TestClient, handle: Any, events: Events) -> None:
    assert client.get("/v1/projects/nobody/pending").status_code == 404
    assert client.post("/v1/projects/nobody/freeze").json()["error"]["code"] == "unknown_project"
    assert client.get("/v1/datasets/p/1").json()["error"]["code"] == "unknown_dataset"
    handle([events.defined()])
    assert client.get("/v1/projects/p/pending").json()["changed"] == 0
    assert client.post("/v1/projects/p/freeze").json()["error"]["code"] == "no_records"


def test_a_freeze_by_hand_of_a_project_taken_out_of_service_is_refused(
    client: TestClient, handle: Any, events: Events
) -> None:
    handle([events.defined(), events.accepted("r", "1")])
    handle([events.defined().model_copy(update={"retired_after": 0, "sequence": 1})])
    answer = client.post("/v1/projects/p/freeze")
    assert (answer.status_code, answer.json()["error"]["code"]) == (409, "project_retired")
    handle([events.defined().model_copy(update={"sequence": 2})])
    assert client.post("/v1/projects/p/freeze").status_code == 202
