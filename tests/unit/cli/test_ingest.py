import json
from pathlib import Path

import pytest

from services.chassis.rows.hub import parse
from services.cli import record_files
from services.cli.app import run
from services.cli.errors import Usage
from services.cli.record_files import batches
from services.cli.verbs import ingest as verb
from tests.unit.cli.conftest import Services

PATH = "/v1/projects/p/records"


@pytest.fixture(autouse=True)
def home(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
    monkeypatch.setenv("NORIA_HOME", str(tmp_path / "home"))
    return tmp_path / "home"


def lines(path: Path) -> list[tuple[int, object]]:
    return [
        (number, json.loads(line))
        for batch in batches(path)
        for number, line in zip(batch.numbers, batch.body.split(b"\n"), strict=True)
    ]


def test_blank_lines_keep_the_numbers_of_the_others(tmp_path: Path) -> None:
    (tmp_path / "a.jsonl").write_bytes(b"\n1\r\n\n  \n2")
    assert lines(tmp_path / "a.jsonl") == [(2, 1), (5, 2)]


def test_batches_are_bounded_and_tell_how_far_they_are(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(record_files, "LINES", 2)
    (tmp_path / "a.jsonl").write_text("1\n2\n3\n4\n5\n")
    found = list(batches(tmp_path / "a.jsonl"))
    assert [b.numbers for b in found] == [(1, 2), (3, 4), (5,)]
    assert [b.numbers for b in batches(tmp_path / "a.jsonl", after=3)] == [(4, 5)]
    monkeypatch.setattr(record_files, "BYTES", 1)
    assert len(list(batches(tmp_path / "a.jsonl"))) == 5


@pytest.mark.parametrize("name", ["a.json", "a.parquet"])
def test_a_file_that_is_not_what_its_name_says_is_refused(name: str, tmp_path: Path) -> None:
    (tmp_path / name).write_text("{")
    with pytest.raises(Usage, match="is not"):
        list(batches(tmp_path / name))


def test_a_hub_address_says_what_is_missing(capsys: pytest.CaptureFixture[str], services: Services) -> None:
    """Without the library, or without a network to the hub: one clear error, nothing sent."""
    assert run(["ingest", "p", "hf://nobody/no-such-dataset", "--json"]) == 2
    assert json.loads(capsys.readouterr().out)["error"]["code"] in ("no_datasets_library", "hub_unavailable")
    assert run(["ingest", "p", "hf://", "--json"]) == 2
    assert json.loads(capsys.readouterr().out)["error"]["code"] == "bad_address"
    assert services.asked == []
    assert parse("hf://datasets/a/b@main/en:test") == ("a/b", "main", "en", "test")
    assert parse("hf://a/b") == ("a/b", None, None, "train")


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
    said = capsys.readouterr()
    assert "line 1: not_json" in said.out
    assert "no record was accepted" in said.err
    (tmp_path / "b.csv").write_text("prompt,completion\n")
    assert run(["ingest", "p", str(tmp_path / "b.csv")]) == 1
    assert "b.csv has no rows" in capsys.readouterr().err


def test_an_unknown_project_fails_as_a_whole(
    services: Services, tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    (tmp_path / "a.jsonl").write_text("{}\n")
    services.say("POST", PATH, (404, {"error": {"code": "unknown_project", "message": "no project 'p'; apply it"}}))
    assert run(["ingest", "p", str(tmp_path / "a.jsonl"), "--json"]) == 1
    assert json.loads(capsys.readouterr().out)["error"]["code"] == "unknown_project"


def taken(count: int) -> tuple[int, dict[str, object]]:
    return 202, {"accepted": [{"line": i + 1, "record_id": f"r{i}", "id": "x"} for i in range(count)], "refused": []}


class Stopping:
    """Ctrl-C at a call of `send`."""

    def __init__(self, monkeypatch: pytest.MonkeyPatch, at: int) -> None:
        self.calls, self.at, self.send = 0, at, verb.send
        monkeypatch.setattr(verb, "send", self)

    def __call__(self, project: str, batch: record_files.Batch) -> dict[str, object]:
        self.calls += 1
        if self.calls == self.at:
            raise KeyboardInterrupt
        return self.send(project, batch)


def test_a_stopped_run_goes_on_where_it_was(
    services: Services, tmp_path: Path, home: Path, capsys: pytest.CaptureFixture[str], monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(record_files, "LINES", 2)
    path = tmp_path / "a.jsonl"
    path.write_text("".join(f'{{"text": "{i}"}}\n' for i in range(5)))
    services.say("POST", PATH, taken(2), taken(2), taken(1))
    Stopping(monkeypatch, at=2)
    assert run(["ingest", "p", str(path)]) == 130
    assert "stopped behind row 2" in capsys.readouterr().err
    assert len(list((home / "state" / "ingest").iterdir())) == 1
    assert run(["ingest", "p", str(path), "--json"]) == 0
    shown = capsys.readouterr()
    assert "going on behind row 2" in shown.err
    document = json.loads(shown.out)
    assert (document["accepted_count"], [a["line"] for a in document["accepted"]]) == (5, [3, 4, 5])
    assert b"".join(body for _, _, body in services.asked).count(b"text") == 5, "each row once"
    assert list((home / "state" / "ingest").iterdir()) == []


@pytest.mark.parametrize("how", ["changed", "restart", "other project"])
def test_another_file_or_a_restart_begins_anew(
    how: str, services: Services, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(record_files, "LINES", 1)
    path = tmp_path / "a.jsonl"
    path.write_text('{"text": "a"}\n{"text": "b"}\n')
    services.say("POST", PATH, taken(1), taken(1), taken(1), taken(1))
    services.say("POST", PATH.replace("/p/", "/q/"), taken(1), taken(1))
    Stopping(monkeypatch, at=2)
    assert run(["ingest", "p", str(path)]) == 130
    if how == "changed":
        path.write_text('{"text": "c"}\n{"text": "longer"}\n')
    further = ["--restart"] if how == "restart" else []
    assert run(["ingest", "q" if how == "other project" else "p", str(path), *further]) == 0
    assert len(services.asked) == 3


def test_lists_are_bounded_and_all_refusals_go_to_a_file(
    services: Services, tmp_path: Path, capsys: pytest.CaptureFixture[str], monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(record_files, "LINES", 1)
    monkeypatch.setattr(verb, "KEPT", 2)
    (tmp_path / "a.jsonl").write_text("1\n" * 4)
    no = {"accepted": [], "refused": [{"line": 1, "reason": "not_an_object", "detail": "é"}]}
    services.say("POST", PATH, taken(1), (422, no), (422, no), (422, no))
    out = tmp_path / "refused.jsonl"
    assert run(["ingest", "p", str(tmp_path / "a.jsonl"), "--refused", str(out), "--json"]) == 0
    document = json.loads(capsys.readouterr().out)
    assert (document["accepted_count"], document["refused_count"]) == (1, 3)
    assert [r["line"] for r in document["refused"]] == [2, 3]
    assert [json.loads(line)["line"] for line in out.read_text().splitlines()] == [2, 3, 4]
