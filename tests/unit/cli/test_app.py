import json
import time
from pathlib import Path
from typing import Any

import pytest

from services.cli.app import run
from tests.conftest import free_port, loaded
from tests.unit.cli.conftest import Services

PROJECT = "project: p\nbase: b\n"


def ran(capsys: pytest.CaptureFixture[str], *arguments: str) -> tuple[int, Any, str]:
    """Exit status, the JSON document on stdout, stderr."""
    status = run([*arguments, "--json"])
    said = capsys.readouterr()
    return status, json.loads(said.out), said.err


def test_the_command_starts_without_what_only_verbs_need() -> None:
    heavy = ("httpx", "pydantic", "rich", "yaml", "aiokafka", "pyarrow", "supervisor", "fastapi")
    assert loaded("import services.cli.app", *heavy) == set()


def test_a_service_that_is_away_is_told_with_what_to_do(
    capsys: pytest.CaptureFixture[str], monkeypatch: pytest.MonkeyPatch
) -> None:
    port = free_port()
    monkeypatch.setenv("NORIA_PREP_PORT", str(port))
    status, document, err = ran(capsys, "datasets")
    assert status == 1
    assert document["error"]["code"] == "unreachable"
    assert f"prep does not answer on 127.0.0.1:{port}; start it with `noria up`" in err


@pytest.mark.parametrize(
    ("arguments", "message"),
    [
        (["feedback", "r1"], "at least one of --thumb"),
        (["feedback", "r1", "--score", "7"], "score"),
        (["promote", "shell-copilot"], "MODEL@VERSION"),
        (["lineage", "a/b@1"], "MODEL@VERSION"),
        (["nonsense"], "nonsense"),
        (["apply"], "FILE"),
        (["apply", "/nowhere.yaml"], "No such file"),
        (["watch", "nothing"], "no topic begins with"),
        (["dlq", "show", "ab"], "too short"),
    ],
)
def test_a_wrong_call_exits_2_and_says_why(
    arguments: list[str], message: str, capsys: pytest.CaptureFixture[str]
) -> None:
    status, document, err = ran(capsys, *arguments)
    assert status == 2
    assert message.lower() in document["error"]["message"].lower()
    assert message.lower() in err.lower()


def test_a_setting_that_is_no_port_is_named(
    capsys: pytest.CaptureFixture[str], monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setenv("NORIA_PREP_PORT", "many")
    status, document, _ = ran(capsys, "datasets")
    assert (status, document["error"]["code"]) == (2, "bad_setting")
    assert "NORIA_PREP_PORT is 'many'" in document["error"]["message"]


def test_apply_sends_the_checked_project(
    services: Services, tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    services.say("POST", "/v1/projects", (200, {"project": "p", "revision": "a" * 64, "changed": True}))
    file = tmp_path / "project.yaml"
    file.write_text(PROJECT)
    status, document, _ = ran(capsys, "apply", str(file), "--wait", "0")
    assert (status, document["changed"]) == (0, True)
    sent = json.loads(services.asked[0][2])
    assert (sent["project"], sent["prep"]["freeze"]["quiet"]) == ("p", "20s")


def test_apply_says_what_answers(services: Services, tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    services.say("POST", "/v1/projects", (200, {"project": "p", "revision": "a" * 64, "changed": True}))
    card = {"id": "p", "root": "p@base", "ready": False}
    busy = {"error": {"code": "model_loading", "message": "The base of 'p' is being looked for"}}
    services.say("GET", "/v1/models/p", (503, busy), (200, card), (200, card | {"ready": True}))
    file = tmp_path / "project.yaml"
    file.write_text(PROJECT)
    status, document, _ = ran(capsys, "apply", str(file))
    assert (status, document["serves"]["model"]) == (0, "p@base")
    assert run(["apply", str(file), "--wait", "0"]) == 0
    assert "answers" not in capsys.readouterr().out


def test_apply_says_what_the_method_learns_nothing_from(
    services: Services, tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    services.say("POST", "/v1/projects", (200, {"project": "p", "revision": "a" * 64, "changed": True}))
    train = {"messages": 9, "preference": 3, "prompt_only": 1}
    newest = {"number": 4, "method": "of before", "kinds": train, "unusable": {}}
    nothing = {"kinds": {}, "kinds_counted_to": 100_000}
    services.say(
        "GET", "/v1/projects/p/pending", (200, {"newest": newest} | nothing), (200, {"newest": None} | nothing)
    )
    file = tmp_path / "project.yaml"
    file.write_text(PROJECT)
    assert run(["apply", str(file), "--wait", "0"]) == 0
    told = "sft learns nothing from 3 preference, 1 prompt_only of the training records of dataset 4"
    assert told in capsys.readouterr().out
    assert run(["apply", str(file), "--wait", "0"]) == 0
    assert "learns nothing" not in capsys.readouterr().out


@pytest.mark.parametrize(
    ("method", "kinds", "told"),
    [
        (
            "dpo",
            {"messages": 500},
            ["dpo has nothing to learn from yet: it needs preference,", "records are 500 messages"],
        ),
        ("dpo", {"messages": 500, "preference": 1}, []),
        (
            "sft",
            {"preference": 7},
            ["sft has nothing to learn", "sft learns nothing from 7 preference of the project's"],
        ),
        ("kto", {"unpaired_preference": 5}, ["kto has nothing to learn", "it needs preference or undesirable,"]),
        ("kto", {"unpaired_preference": 5, "undesirable": 1}, []),
        (
            "sft",
            {"messages": 100_000, "prompt_only": 100_000},
            ["nothing from 100000 or more prompt_only of the project"],
        ),
        ("sft", {"messages": 500}, []),
        ("dpo", {}, []),
    ],
)
def test_apply_says_what_the_method_cannot_use_of_records_that_no_dataset_has(
    method: str,
    kinds: dict[str, int],
    told: list[str],
    services: Services,
    tmp_path: Path,
    capsys: pytest.CaptureFixture[str],
) -> None:
    services.say("POST", "/v1/projects", (200, {"project": "p", "revision": "a" * 64, "changed": True}))
    pending = {"newest": None, "kinds": kinds, "kinds_counted_to": 100_000}
    services.say("GET", "/v1/projects/p/pending", (200, pending))
    file = tmp_path / "project.yaml"
    file.write_text(PROJECT + f"train: {{method: {method}}}\n")
    assert run(["apply", str(file), "--wait", "0"]) == 0
    said = capsys.readouterr().out
    assert [part for part in told if part not in said] == []
    assert told or "learn" not in said


def test_apply_does_not_wait_for_a_base_that_is_nowhere(
    services: Services, tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    services.say("POST", "/v1/projects", (200, {"project": "p", "revision": "a" * 64, "changed": True}))
    away = {"error": {"code": "base_unavailable", "message": "base 'x' was not found"}}
    services.say("GET", "/v1/models/p", (503, away))
    file = tmp_path / "project.yaml"
    file.write_text(PROJECT)
    assert run(["apply", str(file)]) == 0
    assert "p does not answer yet: base 'x' was not found" in capsys.readouterr().out


@pytest.mark.parametrize("code", ["teacher_not_allowed", "teacher_key_missing"])
def test_apply_says_at_once_that_a_teacher_is_not_set_up(
    services: Services, tmp_path: Path, capsys: pytest.CaptureFixture[str], code: str
) -> None:
    services.say("POST", "/v1/projects", (200, {"project": "p", "revision": "a" * 64, "changed": True}))
    services.say("GET", "/v1/models/p", (503, {"error": {"code": code, "message": "set NORIA_SERVING_X"}}))
    file = tmp_path / "project.yaml"
    file.write_text(PROJECT)
    began = time.monotonic()
    status, document, _ = ran(capsys, "apply", str(file))
    assert (status, document["serves"]["why"]) == (0, "set NORIA_SERVING_X")
    assert time.monotonic() - began < 10, "not after a minute of waiting"


def test_apply_tells_which_versions_a_new_prompt_is_measured_as(
    services: Services, tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    answer = {"project": "p", "revision": "a" * 64, "changed": True, "prompt_version": 2, "candidates": [3, 4]}
    services.say("POST", "/v1/projects", (200, answer))
    file = tmp_path / "project.yaml"
    file.write_text(PROJECT)
    assert run(["apply", str(file), "--wait", "0"]) == 0
    assert "prompt 2 on weights that are there is measured as p@3, p@4" in capsys.readouterr().err


def test_apply_tells_lines_to_people_and_programs(tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    file = tmp_path / "project.yaml"
    file.write_text(PROJECT + "train:\n  learning_rat: 1\n")
    status, document, err = ran(capsys, "apply", str(file))
    assert status == 2
    assert "line 4: train.learning_rat is not known; did you mean learning_rate?" in err
    [problem] = document["error"]["detail"]
    assert (problem["line"], problem["key"]) == (4, "train.learning_rat")


def test_what_a_service_refuses_is_told_in_its_words(services: Services, capsys: pytest.CaptureFixture[str]) -> None:
    refusal = {"error": {"code": "unknown_model", "message": "there is no model x", "detail": {"a": 1}}}
    services.say("POST", "/v1/models/x/2/promote", (404, refusal))
    status, document, err = ran(capsys, "promote", "x@2", "--by", "me", "--reason", "tests")
    assert (status, document) == (1, refusal)
    assert "there is no model x" in err
    assert json.loads(services.asked[0][2]) == {"by": "me", "reason": "tests"}


def test_an_answer_that_is_no_json_is_an_error(services: Services, capsys: pytest.CaptureFixture[str]) -> None:
    services.say("GET", "/v1/models", (200, b"<html>"))
    status, document, _ = ran(capsys, "models")
    assert (status, document["error"]["code"]) == (1, "http_error")


def test_lists_follow_pages_up_to_the_limit(services: Services, capsys: pytest.CaptureFixture[str]) -> None:
    pages = [(200, {"items": [{"run_id": i}], "next": f"after-{i}"}) for i in range(3)]
    services.say("GET", "/v1/runs", *pages)
    status, document, _ = ran(capsys, "runs", "--limit", "2", "--project", "p")
    assert (status, document) == (0, {"items": [{"run_id": 0}, {"run_id": 1}], "next": "after-1"})
    assert services.asked[1][1] == "/v1/runs?limit=1&after=after-0&project=p"


def test_runs_show_what_was_left_out(services: Services, capsys: pytest.CaptureFixture[str]) -> None:
    row = {"run_id": "r", "project": "p", "status": "done", "left_out": {"template_refused": 2}}
    services.say("GET", "/v1/runs", (200, {"items": [row], "next": None}))
    assert run(["runs"]) == 0
    assert "template_refused" in capsys.readouterr().out.replace("\n", "")


def test_feedback_sends_what_was_said(services: Services, capsys: pytest.CaptureFixture[str]) -> None:
    services.say("POST", "/v1/feedback", (202, {"signal_id": "sig-1", "status": "waiting", "signals": []}))
    status, document, _ = ran(capsys, "feedback", "r1", "--thumb", "down", "--correction", "ls")
    assert (status, document["status"]) == (0, "waiting")
    assert json.loads(services.asked[0][2]) == {"request_id": "r1", "thumb": "down", "correction": "ls"}


def test_chat_writes_the_stream_as_it_comes(services: Services, capsys: pytest.CaptureFixture[str]) -> None:
    chunks = [{"choices": [{"delta": {"content": c}}]} for c in ("tar", " -t")]
    stream = "".join(f"data: {json.dumps(c)}\n\n" for c in chunks) + "data: [DONE]\n\n"
    services.say("POST", "/v1/chat/completions", (200, stream.encode()))
    assert run(["chat", "p", "tar: list", "--model-version", "base"]) == 0
    assert capsys.readouterr().out == "tar -t\n"
    assert json.loads(services.asked[0][2])["model"] == "p@base"


def test_an_error_in_the_middle_of_a_stream_fails(services: Services, capsys: pytest.CaptureFixture[str]) -> None:
    services.say(
        "POST", "/v1/chat/completions", (200, b'data: {"error": {"code": "x", "message": "Triton is away"}}\n')
    )
    assert run(["chat", "p", "hello"]) == 1
    assert "Triton is away" in capsys.readouterr().err
