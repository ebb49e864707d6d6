"""What people say of datasets: kept, said to others, found again, and restored from the log."""

from pathlib import Path
from typing import Any

import pytest
from fastapi.testclient import TestClient
from sqlalchemy import Engine, text

from contracts.envelope import Meta
from contracts.events.prep import DatasetAnnotatedV1
from services.chassis.storage.database import reading
from services.prep.annotations import MOST_TAGS, Annotation, changed
from services.prep.restore import on_dataset_annotated
from tests.unit.prep.builders import NOW, Events, Opened
from tests.unit.prep.test_prep_http import freeze


@pytest.fixture
def two(client: TestClient, handle: Any, events: Events, opened: Opened, tmp_path: Path) -> None:
    handle([events.defined()])
    for number, version in ((1, "a"), (2, "b")):
        handle([events.accepted(f"r{number}", str(number))])
        client.post("/v1/projects/p/freeze")
        freeze(opened, tmp_path, f"freeze-p-{number}", version)


def say(client: TestClient, number: int = 1, **said: Any) -> Any:
    return client.post(f"/v1/datasets/p/{number}/annotate", json={"by": "ada", **said})


def listed(client: TestClient, **params: str) -> list[int]:
    return [one["number"] for one in client.get("/v1/datasets", params=params).json()["items"]]


def told(engine: Engine) -> list[str]:
    with reading(engine) as connection:
        found = connection.execute(
            text("SELECT value FROM outbox WHERE topic = 'prep.dataset.annotated.v1' ORDER BY id")
        )
        return [bytes(value).decode() for (value,) in found]


@pytest.mark.usefixtures("two")
def test_tags_and_notes_are_kept_told_and_found(client: TestClient, engine: Engine) -> None:
    assert client.get("/v1/datasets/p/1").json()["tags"] == []
    shown = say(client, add=["golden", "b", "b"], note="as it should be").json()
    assert (shown["tags"], shown["note"], shown["annotated_by"]) == (["b", "golden"], "as it should be", "ada")
    assert client.get("/v1/datasets/p/1").json() == shown
    assert say(client, add=["golden"]).json() == shown  # nothing new is no event
    shown = say(client, add=["c"], remove=["b", "unknown"], by="bob").json()
    assert (shown["tags"], shown["note"], shown["annotated_by"]) == (["c", "golden"], "as it should be", "bob")
    events = [DatasetAnnotatedV1.model_validate_json(value) for value in told(engine)]
    assert [(event.sequence, event.tags, event.by) for event in events] == [
        (1, ("b", "golden"), "ada"),
        (2, ("c", "golden"), "bob"),
    ]
    assert (listed(client), listed(client, tag="golden"), listed(client, tag="b")) == ([2, 1], [1], [])
    assert listed(client, tag="golden", project="p") == [1]


@pytest.mark.usefixtures("two")
@pytest.mark.parametrize(
    ("said", "status"),
    [
        ({"add": ["Golden"]}, 422),
        ({"add": ["x" * 51]}, 422),
        ({"note": "x" * 10_001}, 422),
        ({"by": ""}, 422),
        ({"tags": []}, 422),
        ({"add": [f"t{i}" for i in range(MOST_TAGS)]}, 409),
    ],
)
def test_what_cannot_be_said_is_refused_and_nothing_changes(client: TestClient, said: Any, status: int) -> None:
    before = say(client, add=["golden"]).json()
    assert say(client, **said).status_code == status
    assert client.get("/v1/datasets/p/1").json() == before
    assert say(client, 7, add=["a"]).status_code == 404


def test_the_last_annotation_stands_whatever_order_they_are_restored_in(opened: Opened, client: TestClient) -> None:
    first = changed(Annotation(), "p", 1, ["a"], [], "one", "ada")
    assert first is not None
    second = changed(Annotation(1, first.tags, first.note), "p", 1, ["b"], ["a"], None, "bob")
    assert second is not None
    for event in (second, first, second):
        with opened() as store:
            on_dataset_annotated(event, Meta("1", "urn:test", "", NOW), store)
    with opened() as store:
        from services.prep.annotations import of_dataset

        found = of_dataset(store.session, "p", 1)
    assert (found.sequence, found.tags, found.note, found.by, found.at) == (2, ("b",), "one", "bob", NOW)
