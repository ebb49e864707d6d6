"""`noria datasets show|diff|export`: what is asked of prep, and what is said."""

import json
from hashlib import sha256
from io import BytesIO
from pathlib import Path
from typing import Any
from urllib.parse import parse_qs, urlsplit

import pyarrow as pa
import pyarrow.parquet as pq
import pytest
import yaml

from services.cli.app import run
from services.cli.dataset_card import readme
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


def test_what_changed_is_a_table(services: Services, capsys: pytest.CaptureFixture[str]) -> None:
    none: dict[str, Any] = {"n": 0, "examples": []}
    figure = {"figure": "split: train", "kind": "share", "before": 0.8, "after": 0.9, "change": 0.1, "drifted": True}
    found = {
        "added": {"n": 3, "examples": [{"record_id": "r1"}]},
        **dict.fromkeys(("removed", "changed", "retagged", "moved"), none),
        "same": 7,
        "figures": [figure, figure | {"figure": "split: held_out", "drifted": False}],
    }
    services.say("GET", "/v1/datasets/p/2/changes", (200, found))
    status, text = said(capsys, "datasets", "diff", "p@1", "p@2")
    assert status == 0
    assert all(part in text for part in ("added", "r1", "the same", "split: train", "80.0 %", "90.0 %", "+10.0 points"))
    assert "held_out" not in text
    assert parse_qs(urlsplit(services.asked[-1][1]).query) == {"since": ["1"], "limit": ["5"]}
    assert said(capsys, "datasets", "diff", "p@1", "q@2")[0] == 2


@pytest.fixture
def exported(services: Services) -> dict[str, bytes]:
    """Prep has dataset 1 of p; its files by split."""
    files: dict[str, bytes] = {}
    for split in ("train", "validation", "held_out"):
        buffer = BytesIO()
        pq.write_table(pa.table({"record_id": [split], "record": ["{}"]}), buffer)
        files[split] = buffer.getvalue()
        services.say("GET", f"/v1/datasets/p/1/files/{split}", (200, files[split]))
    dataset = {
        "project": "p",
        "number": 1,
        "version": "a" * 64,
        "project_revision": "b" * 64,
        "drops": {"duplicate": 2},
        "counts": dict.fromkeys(files, 1),
        "frozen_at": "2026-01-31T00:00:00Z",
        "files": {s: {"uri": "-", "sha256": sha256(raw).hexdigest(), "bytes": len(raw)} for s, raw in files.items()},
    }
    services.say("GET", "/v1/datasets/p/1", (200, dataset))
    services.say("GET", "/v1/datasets/p/1/report", (200, b"<p>page</p>"))
    return files


def test_an_export_is_a_folder_with_its_card(
    exported: dict[str, bytes], capsys: pytest.CaptureFixture[str], tmp_path: Path
) -> None:
    folder = tmp_path / "new" / "out"
    status, text = said(capsys, "datasets", "export", "p@1", str(folder))
    assert (status, "3 rows of p@1" in text) == (0, True)
    assert (folder / "data" / "test-00000-of-00001.parquet").read_bytes() == exported["held_out"]
    header = yaml.safe_load((folder / "README.md").read_text().split("---")[1])
    assert [each["split"] for each in header["configs"][0]["data_files"]] == ["train", "validation", "test"]
    metadata = json.loads((folder / "croissant.json").read_text())
    assert metadata["distribution"][2]["sha256"] == sha256(exported["held_out"]).hexdigest()
    assert (folder / "report.html").read_text() == "<p>page</p>"
    assert [path.name for path in folder.parent.iterdir()] == ["out"]


def test_a_split_without_rows_is_not_named_to_the_library() -> None:
    dataset: dict[str, Any] = {"project": "p", "number": 1, "version": "a", "project_revision": "b", "drops": {}}
    card = readme(dataset | {"counts": {"train": 3, "validation": 0}, "frozen_at": "2026-01-31"})
    [config] = yaml.safe_load(card.split("---")[1])["configs"]
    assert [each["split"] for each in config["data_files"]] == ["train"]


def test_an_export_takes_no_other_s_place(
    exported: dict[str, bytes], capsys: pytest.CaptureFixture[str], tmp_path: Path
) -> None:
    folder = tmp_path / "out"
    folder.mkdir()
    assert said(capsys, "datasets", "export", "p@1", str(folder))[0] == 0
    status, text = said(capsys, "datasets", "export", "p@1", str(folder))
    assert (status, "--force" in text) == (2, True)
    (folder / "data" / "test-00000-of-00001.parquet").unlink()
    assert said(capsys, "datasets", "export", "p@1", str(folder), "--force")[0] == 0
    assert (folder / "data" / "test-00000-of-00001.parquet").read_bytes() == exported["held_out"]
    (tmp_path / "mine").mkdir()
    (tmp_path / "mine" / "thesis.txt").write_text("the only copy")
    status, text = said(capsys, "datasets", "export", "p@1", str(tmp_path / "mine"), "--force")
    assert (status, "no export wrote" in text) == (2, True)
    assert sorted(path.name for path in tmp_path.iterdir()) == ["mine", "out"]


def test_a_file_that_is_altered_on_its_way_or_lost_leaves_nothing(
    exported: dict[str, bytes], services: Services, capsys: pytest.CaptureFixture[str], tmp_path: Path
) -> None:
    lost = {"error": {"code": "artifact_missing", "message": "no artifact lies at file:///x"}}
    services.say("GET", "/v1/datasets/p/1/files/held_out", (200, exported["held_out"] + b"x"), (409, lost))
    for code in ("file_altered", "artifact_missing"):
        assert run(["datasets", "export", "p@1", str(tmp_path / "out"), "--json"]) == 1
        assert json.loads(capsys.readouterr().out)["error"]["code"] == code
        assert list(tmp_path.iterdir()) == []


def test_annotate_says_what_is_added_and_taken_away(services: Services, capsys: pytest.CaptureFixture[str]) -> None:
    services.say("POST", "/v1/datasets/p/1/annotate", (200, {"tags": ["golden"], "note": "as it should be"}))
    status, text = said(
        capsys,
        "datasets",
        "annotate",
        "p@1",
        "--tag",
        "golden",
        "--untag",
        "old",
        "--note",
        "as it should be",
        "--by",
        "ada",
    )
    assert (status, "p@1: golden; as it should be" in text) == (0, True)
    [(_, _, body)] = services.asked
    assert json.loads(body) == {"add": ["golden"], "remove": ["old"], "note": "as it should be", "by": "ada"}
    assert said(capsys, "datasets", "annotate", "p@1")[0] == 2


def test_datasets_are_listed_by_tag(services: Services, capsys: pytest.CaptureFixture[str]) -> None:
    services.say("GET", "/v1/datasets", (200, {"items": [], "next": None, "failures": []}))
    status, text = said(capsys, "datasets", "--tag", "golden")
    assert (status, "no dataset has the tag golden" in text) == (0, True)
    assert "tag=golden" in services.asked[0][1]
