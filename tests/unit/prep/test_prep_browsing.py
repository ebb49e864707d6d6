from pathlib import Path
from typing import Any

import pytest
from fastapi.testclient import TestClient

from contracts.canonical import canonical, digest
from services.chassis.storage.artifacts import open_store
from services.prep.domain.rows import SPLITS
from services.prep.settings import PrepSettings
from services.prep.tables import DatasetRow
from tests.unit.prep.builders import NOW, Opened
from tests.unit.prep.frozen import write

KINDS = ("added", "removed", "changed", "retagged", "moved")


def row(i: int, completion: str | None = None, odd: str | None = None) -> dict[str, Any]:
    record = {"prompt": f"word{i} thing{i}", "completion": completion or f"do {i}"}
    return {"record_id": f"r{i:02}", "record": record, "tags": {"odd": odd or str(i % 2)}}


@pytest.fixture
def files(opened: Opened, tmp_path: Path) -> dict[str, Any]:
    """Dataset 1 of p in the store: 30 rows and a duplicate."""
    return kept([row(i) for i in range(30)], 1, opened, tmp_path)


def kept(rows: list[dict[str, Any]], number: int, opened: Opened, tmp_path: Path) -> dict[str, Any]:
    """A dataset of these rows and a duplicate in the store; its files."""
    splits: dict[str, list[dict[str, Any]]] = {split: [] for split in SPLITS}
    for each in rows:
        splits[SPLITS[int(each["record_id"][1:]) % 3]].append(each)
    twin = {"record_id": "twin", "record": row(3)["record"], "reason": "duplicate", "because_of": "r03"}
    artifacts = open_store(PrepSettings(home=tmp_path))
    paths = write(tmp_path, splits, [twin])
    refs = {name: artifacts.put_file(path).model_dump() for name, path in paths.items()}
    page = artifacts.put_bytes(b'{"counts": {"train": %d}}' % number).model_dump()
    with opened() as store:
        store.add(
            DatasetRow(
                project="p",
                number=number,
                version=digest(canonical(rows)),
                project_revision="0" * 64,
                counts={"train": 1},
                drops={"duplicate": 1},
                cause="policy",
                frozen_at=NOW,
                files=refs,
                profile=page,
                report=page,
            )
        )
    return refs


def pages(client: TestClient, path: str, **params: Any) -> list[list[dict[str, Any]]]:
    found: list[list[dict[str, Any]]] = []
    after: str | None = None
    while True:
        answer = client.get(path, params={**params, **({"after": after} if after else {})})
        assert answer.status_code == 200, answer.text
        found.append(answer.json()["items"])
        after = answer.json()["next"]
        if after is None:
            return found


@pytest.mark.usefixtures("files")
@pytest.mark.parametrize("limit", [1, 4, 30, 500])
def test_every_row_of_every_split_is_on_one_page(client: TestClient, limit: int) -> None:
    found = pages(client, "/v1/datasets/p/1/rows", limit=limit)
    rows = [row for page in found for row in page]
    assert sorted(row["record_id"] for row in rows) == [f"r{i:02}" for i in range(30)]
    assert [row["split"] for row in rows] == sorted((row["split"] for row in rows), key=list(SPLITS).index)
    assert all(len(page) == limit for page in found[:-1])
    assert rows[0]["record"]["completion"].startswith("do ")
    assert rows[0]["tags"]["odd"] in "01"


@pytest.mark.usefixtures("files")
def test_rows_are_filtered_and_columns_chosen(client: TestClient) -> None:
    path = "/v1/datasets/p/1/rows"
    [found] = pages(client, path, where=["tags.odd = 1", "record ~ WORD1"], fields="record_id,tags")
    assert sorted(row["record_id"] for row in found) == ["r01", "r11", "r13", "r15", "r17", "r19"]
    assert all(set(row) == {"split", "record_id", "tags"} for row in found)
    [train] = pages(client, path, split="train")
    assert {row["split"] for row in train} == {"train"}


@pytest.mark.usefixtures("files")
def test_what_was_left_out_is_shown_with_what_it_repeats(client: TestClient) -> None:
    [drops] = pages(client, "/v1/datasets/p/1/drops", reason="duplicate")
    assert [(d["record_id"], d["reason"], d["because_of"]) for d in drops] == [("twin", "duplicate", "r03")]
    assert drops[0]["record"] == {"completion": "do 3", "prompt": "word3 thing3"}
    assert pages(client, "/v1/datasets/p/1/drops", reason="too_long") == [[]]
    assert pages(client, "/v1/datasets/p/1/drops", where="because_of = r03") == [drops]


@pytest.mark.usefixtures("files")
@pytest.mark.parametrize(
    ("path", "params", "status", "code"),
    [
        ("2/rows", {}, 404, "unknown_dataset"),
        ("1/rows", {"where": "color = red"}, 400, "invalid_filter"),
        ("1/rows", {"fields": "record_id,color"}, 400, "invalid_fields"),
        ("1/rows", {"after": "bm8"}, 400, "invalid_cursor"),
        ("1/rows", {"after": "WyJ4IiwieCIsIngiXQ"}, 400, "invalid_cursor"),
        ("1/rows", {"split": "drops"}, 422, "invalid_request"),
        ("1/drops", {"where": "digest = x"}, 400, "invalid_filter"),
        ("1/files/passwd", {}, 404, "unknown_file"),
    ],
)
def test_a_wrong_question_is_told(
    client: TestClient, path: str, params: dict[str, str], status: int, code: str
) -> None:
    answer = client.get(f"/v1/datasets/p/{path}", params=params)
    assert (answer.status_code, answer.json()["error"]["code"]) == (status, code)


def test_a_file_is_given_as_it_lies(client: TestClient, files: dict[str, Any]) -> None:
    answer = client.get("/v1/datasets/p/1/files/train")
    assert len(answer.content) == files["train"]["bytes"]
    assert answer.content == Path(files["train"]["uri"].removeprefix("file://")).read_bytes()


@pytest.mark.parametrize("kind", ["missing", "corrupt"])
def test_a_file_that_is_lost_or_altered_is_named(client: TestClient, files: dict[str, Any], kind: str) -> None:
    path = Path(files["drops"]["uri"].removeprefix("file://"))
    path.chmod(0o644)
    path.unlink() if kind == "missing" else path.write_bytes(b"x" * files["drops"]["bytes"])
    answer = client.get("/v1/datasets/p/1/drops")
    assert (answer.status_code, answer.json()["error"]["code"]) == (409, f"artifact_{kind}")
    assert files["drops"]["uri"] in answer.json()["error"]["message"]
    assert client.get("/v1/datasets/p/1/rows").status_code == 200


@pytest.mark.parametrize("name", ["report", "profile"])
def test_a_lost_profile_is_named(client: TestClient, files: dict[str, Any], opened: Opened, name: str) -> None:
    lost = {**files["drops"], "sha256": "0" * 64, "uri": files["drops"]["uri"][:-3] + "000"}
    with opened() as store:
        found = store.dataset("p", 1)
        assert found is not None
        setattr(found, name, lost)
    answer = client.get(f"/v1/datasets/p/1/{name}")
    assert (answer.status_code, answer.json()["error"]["code"]) == (409, "artifact_missing")


@pytest.mark.usefixtures("files")
def test_what_changed_between_two_datasets(client: TestClient, opened: Opened, tmp_path: Path) -> None:
    rows = [row(2, completion="do it"), row(3, odd="no"), *(row(i) for i in range(4, 33))]
    kept(rows, 2, opened, tmp_path)
    found = client.get("/v1/datasets/p/2/changes", params={"since": 1, "limit": 2}).json()
    told = {kind: (found[kind]["n"], [one["record_id"] for one in found[kind]["examples"]]) for kind in KINDS}
    assert told == {
        "added": (3, ["r30", "r31"]),
        "removed": (2, ["r00", "r01"]),
        "changed": (1, ["r02"]),
        "retagged": (1, ["r03"]),
        "moved": (0, []),
    }
    assert found["same"] == 26
    example = found["changed"]["examples"][0]
    assert example["digest_before"] != example["digest_after"]
    assert found["figures"][0]["figure"] == "split: train"
    assert client.get("/v1/datasets/p/2/changes", params={"since": 9}).status_code == 404
    assert client.get("/v1/datasets/p/2/profile").json() == {"counts": {"train": 2}}
