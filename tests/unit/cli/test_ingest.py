import json
from pathlib import Path

import pyarrow as pa
import pytest
from pyarrow import parquet

from services.cli import record_files
from services.cli.app import run
from services.cli.errors import Usage
from services.cli.record_files import batches
from tests.unit.cli.conftest import Services

PATH = "/v1/projects/p/records"


def lines(path: Path) -> list[tuple[int, object]]:
    return [
        (number, json.loads(line))
        for batch in batches(path)
        for number, line in zip(batch.numbers, batch.body.split(b"\n"), strict=True)
    ]


def test_every_format_gives_the_same_records(tmp_path: Path) -> None:
    records = [{"prompt": f"é{i}", "completion": "b"} for i in range(3)]
    expected = list(enumerate(records, 1))
    (tmp_path / "a.jsonl").write_text("\ufeff" + "\n".join(map(json.dumps, records)))
    (tmp_path / "a.json").write_text(json.dumps(records))
    (tmp_path / "one.json").write_text(json.dumps(records[0]))
    parquet.write_table(
        pa.Table.from_pylist([*records[:2], {**records[2], "tags": {"a": "b"}}]), tmp_path / "a.parquet"
    )
    assert lines(tmp_path / "a.jsonl") == lines(tmp_path / "a.json") == expected
    assert lines(tmp_path / "one.json") == expected[:1]
    assert lines(tmp_path / "a.parquet")[:2] == expected[:2]


def test_blank_lines_keep_the_numbers_of_the_others(tmp_path: Path) -> None:
    (tmp_path / "a.jsonl").write_bytes(b"\n1\r\n\n  \n2")
    assert lines(tmp_path / "a.jsonl") == [(2, 1), (5, 2)]


def test_batches_are_bounded_and_tell_how_far_they_are(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(record_files, "LINES", 2)
    (tmp_path / "a.jsonl").write_text("1\n2\n3\n4\n5\n")
    found = list(batches(tmp_path / "a.jsonl"))
    assert [b.numbers for b in found] == [(1, 2), (3, 4), (5,)]
    assert [b.share for b in found] == [0.4, 0.8, 1.0]
    monkeypatch.setattr(record_files, "BYTES", 1)
    assert len(list(batches(tmp_path / "a.jsonl"))) == 5


@pytest.mark.parametrize("name", ["a.json", "a.parquet"])
def test_a_file_that_is_not_what_its_name_says_is_refused(name: str, tmp_path: Path) -> None:
    (tmp_path / name).write_text("{")
    with pytest.raises(Usage, match="is not"):
        list(batches(tmp_path / name))


def test_refusals_have_their_line_in_the_file(
    services: Services, tmp_path: Path, capsys: pytest.CaptureFixture[str], monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(record_files, "LINES", 2)
    (tmp_path / "a.jsonl").write_text('{"a": 1}\n\n{"b": 2}\nnot json\n')
    whole = {"accepted": [], "refused": [{"line": 1, "reason": "not_json", "detail": "at 1"}]}
    some = {"accepted": [{"line": 1, "record_id": "x", "id": "1"}], "refused": [{"line": 2, "reason": "r"}]}
    services.say("POST", PATH, (202, some), (422, {"error": {"code": "all_refused", "message": "", "detail": whole}}))
    assert run(["ingest", "p", str(tmp_path / "a.jsonl"), "--json"]) == 0
    document = json.loads(capsys.readouterr().out)
    assert [(r["line"], r["reason"]) for r in document["refused"]] == [(3, "r"), (4, "not_json")]
    assert [a["line"] for a in document["accepted"]] == [1]
    assert services.asked[0][2] == b'{"a": 1}\n{"b": 2}'


def test_nothing_accepted_is_a_failure(services: Services, tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    (tmp_path / "a.jsonl").write_text("x\n")
    services.say("POST", PATH, (422, {"accepted": [], "refused": [{"line": 1, "reason": "not_json"}]}))
    assert run(["ingest", "p", str(tmp_path / "a.jsonl")]) == 1
    assert "line 1: not_json" in capsys.readouterr().out


def test_an_unknown_project_fails_as_a_whole(
    services: Services, tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    (tmp_path / "a.jsonl").write_text("{}\n")
    services.say("POST", PATH, (404, {"error": {"code": "unknown_project", "message": "no project 'p'; apply it"}}))
    assert run(["ingest", "p", str(tmp_path / "a.jsonl"), "--json"]) == 1
    assert json.loads(capsys.readouterr().out)["error"]["code"] == "unknown_project"
