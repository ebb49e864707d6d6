"""`noria prompt list|show|diff|try|test|examples`: what is asked of which service, and what is said."""

import json
import os
import signal
import threading
import time
from pathlib import Path
from typing import Any
from urllib.parse import parse_qs, urlsplit

import pytest
import yaml

from contracts.prompt import Prompt, prompt_digest
from services.cli.app import run
from services.cli.project_file import parse as parse_project
from tests.unit.cli.conftest import Services

FIRST: dict[str, Any] = {"system": "One command."}
SECOND: dict[str, Any] = {"system": "One {{ kind }}.\nNo words.", "variables": {"kind": "command"}}
CHAT = "/v1/chat/completions"


def version(number: int, prompt: dict[str, Any]) -> dict[str, Any]:
    digest = prompt_digest(Prompt.model_validate(prompt))
    told = {
        "digest": digest,
        "revision": "r" * 64,
        "at": "2026-01-31T12:00:00+00:00",
        "models": [number],
        "serving": True,
    }
    return {"project": "p", "version": number, "prompt": prompt, **told}


@pytest.fixture
def known(services: Services) -> Services:
    """The registry has two prompts of p, which is defined with the first; the gateway says what it was asked."""
    rows = [version(2, SECOND) | {"serving": False}, version(1, FIRST)]
    services.say("GET", "/v1/projects/p/prompts", (200, {"items": rows, "next": None}))
    for row in rows:
        services.say("GET", f"/v1/projects/p/prompts/{row['version']}", (200, row))
    services.say("GET", "/v1/projects/p", (200, {"spec": {"project": "p", "base": "b", "prompt": FIRST}}))
    services.compute("POST", CHAT, answered)
    return services


def answered(path: str, body: bytes) -> tuple[int, Any, dict[str, str]]:
    """An answer that tells the model and the last turn; a question that says so is refused."""
    asked = json.loads(body)
    said = asked["messages"][-1]["content"]
    if said == "refuse":
        return 400, {"error": {"code": "context_length_exceeded", "message": "too long"}}, {}
    if asked["model"] == "p@99":
        return 404, {"error": {"code": "model_not_found", "message": "no version 99"}}, {}
    choice = {"message": {"content": f"{asked['model']} says {said}"}, "finish_reason": "stop"}
    usage = {"prompt_tokens": 7, "completion_tokens": 3}
    return 200, {"id": "req-1", "choices": [choice], "usage": usage}, {"x-noria-model-version": "4"}


def said(capsys: pytest.CaptureFixture[str], *arguments: str) -> tuple[int, str, str]:
    status = run(["prompt", *arguments])
    captured = capsys.readouterr()
    return status, captured.out, captured.err


def chats(services: Services) -> list[dict[str, Any]]:
    return [json.loads(body) for _, path, body in services.asked if path == CHAT]


def test_versions_are_listed(known: Services, capsys: pytest.CaptureFixture[str]) -> None:
    status, out, _ = said(capsys, "list", "p")
    assert status == 0
    assert [line.split()[0] for line in out.splitlines() if "p@" in line] == ["p@2", "p@1"]
    assert all(part in out for part in (version(1, FIRST)["digest"][:12], "2026-01-31", "serves", "yes"))
    status, out, _ = said(capsys, "list", "p", "--json")
    assert [row["version"] for row in json.loads(out)["items"]] == [2, 1]


def test_a_prompt_is_shown_as_a_project_file_has_it(known: Services, capsys: pytest.CaptureFixture[str]) -> None:
    for named, prompt in (("p@2", SECOND), ("p", FIRST)):
        status, out, _ = said(capsys, "show", named)
        assert (status, yaml.safe_load(out)) == (0, {"prompt": prompt})
        assert parse_project(f"project: p\nbase: b\n{out}".encode()).prompt == Prompt.model_validate(prompt)
    assert out.startswith("# prompt 1 of p, ")
    status, out, _ = said(capsys, "show", "p@2", "--json")
    assert json.loads(out) == version(2, SECOND) | {"serving": False}
    assert said(capsys, "show", "P 2")[0] == 2


def test_what_differs_is_shown_by_key(known: Services, capsys: pytest.CaptureFixture[str]) -> None:
    status, out, _ = said(capsys, "diff", "p", "1", "2")
    assert (status, out.splitlines()[:5]) == (
        0,
        ["system:", "  @@ -1 +1,2 @@", "  -One command.", "  +One {{ kind }}.", "  +No words."],
    )
    assert "variables:" in out
    assert said(capsys, "diff", "p", "1", "1")[0] == 2
    changes = json.loads(said(capsys, "diff", "p", "2", "1", "--json")[1])["changes"]
    assert list(changes) == ["system", "variables"]
    assert "-kind: command" in changes["variables"]


def test_one_model_is_streamed(known: Services, capsys: pytest.CaptureFixture[str]) -> None:
    chunks: list[dict[str, Any]] = [{"choices": [{"delta": {"content": c}}]} for c in ("tar", " -t")]
    chunks.append({"choices": [], "usage": {"prompt_tokens": 9, "completion_tokens": 2}})
    stream = "".join(f"data: {json.dumps(c)}\n\n" for c in chunks) + "data: [DONE]\n\n"
    known.functions.clear()
    known.say("POST", CHAT, (200, stream.encode()))
    status, out, err = said(
        capsys, "try", "p", "list it", "--version", "2", "--var", "kind=word=s", "--max-tokens", "9"
    )
    assert (status, out) == (0, "tar -t\n")
    assert "9 tokens read, 2 written, first after 0.0" in err
    [asked] = chats(known)
    assert asked["prompt"] == {"id": "p", "version": "2", "variables": {"kind": "word=s"}}
    assert (asked["model"], asked["stream"], asked["max_tokens"]) == ("p", True, 9)
    assert asked["messages"] == [{"role": "user", "content": "list it"}]


def test_models_answer_side_by_side(known: Services, capsys: pytest.CaptureFixture[str]) -> None:
    status, out, _ = said(capsys, "try", "p", "hello", "--model", "p@3", "--model", "p@base")
    assert status == 0
    assert all(part in out for part in ("p@3 says hello", "p@base says hello", "version 4, 3 tokens"))
    assert [asked["model"] for asked in chats(known)] == ["p@3", "p@base"] or len(chats(known)) == 2
    assert all("prompt" not in asked for asked in chats(known))


def test_a_file_of_questions_is_asked(known: Services, capsys: pytest.CaptureFixture[str], tmp_path: Path) -> None:
    file = tmp_path / "questions.txt"
    file.write_text("one\n\nrefuse\ntwo\n")
    status, out, _ = said(capsys, "try", "p", "--file", str(file), "--json")
    answers = json.loads(out)["answers"]
    assert status == 0
    assert [answer["question"] for answer in answers] == ["one", "refuse", "two"]
    assert [answer["text"] for answer in answers] == ["p says one", "", "p says two"]
    assert answers[1]["error"] == "context_length_exceeded: too long"
    assert (answers[0]["version"], answers[0]["tokens"], answers[0]["request_id"]) == ("4", 3, "req-1")
    assert said(capsys, "try", "p", "refuse", "--json")[0] == 1, "nobody answered"


def test_what_is_rendered_is_the_prompt_that_serves(known: Services, capsys: pytest.CaptureFixture[str]) -> None:
    for arguments, system in (((), "One command."), (("--version", "2"), "One command.\nNo words.")):
        out = said(capsys, "try", "p", "q", "--rendered", "--json", *arguments)[1]
        assert json.loads(out)["rendered"][0] == {"role": "system", "content": system}
    rows = [version(2, SECOND), version(1, FIRST) | {"serving": False}]
    known.say("GET", "/v1/projects/p/prompts", (200, {"items": rows, "next": None}))
    out = said(capsys, "try", "p", "q", "--rendered", "--json", "--var", "kind=word")[1]
    assert json.loads(out)["rendered"][0]["content"] == "One word.\nNo words."


def test_before_another_project_s_model_the_prompt_is_put_here(
    known: Services, capsys: pytest.CaptureFixture[str]
) -> None:
    call = ("try", "p", "q", "--version", "2", "--var", "kind=line", "--model", "p@3", "--model", "other")
    assert said(capsys, *call)[0] == 0
    turns = [{"role": "system", "content": "One line.\nNo words."}, {"role": "user", "content": "q"}]
    assert [asked["messages"] for asked in chats(known)] == [turns, turns]
    assert not any("prompt" in asked for asked in chats(known))


def test_a_file_s_prompt_is_tried_before_it_is_applied(
    known: Services, capsys: pytest.CaptureFixture[str], tmp_path: Path
) -> None:
    file = tmp_path / "project.yaml"
    file.write_text(
        f"project: p\nbase: b\nprompt: {json.dumps(SECOND | {'examples': [{'user': 'u', 'assistant': 'a'}]})}\n"
    )
    call = ("try", "p", "q", "--prompt", str(file), "--var", "kind=line", "--json")
    status, out, _ = said(capsys, *call, "--rendered")
    assert status == 0
    [asked] = chats(known)
    shown = [("system", "One line.\nNo words."), ("user", "u"), ("assistant", "a"), ("user", "q")]
    assert [(turn["role"], turn["content"]) for turn in asked["messages"]] == shown
    assert "prompt" not in asked
    assert json.loads(out)["rendered"] == asked["messages"]
    assert said(capsys, "try", "p", "q", "--prompt", str(file), "--var", "knid=line")[0] == 2
    assert said(capsys, "try", "p", "q", "--prompt", str(file), "--version", "1")[0] == 2
    file.write_text("project: p\nbase: b\n")
    status, _, err = said(capsys, "try", "p", "q", "--prompt", str(file))
    assert (status, "has no system prompt" in err) == (2, True)


@pytest.mark.parametrize(
    ("arguments", "message"),
    [
        (["try", "p"], "give a question, or --file"),
        (["try", "p", "q", "--file", "x"], "give a question, or --file"),
        (["try", "p", "q", "--var", "kind"], "give NAME=VALUE"),
        (["try", "p", "--file", "/nowhere"], "No such file"),
        (["test", "p", "/nowhere.yaml"], "No such file"),
        (["examples", "p", "--dataset", "q@1"], "of another project"),
    ],
)
def test_a_wrong_call_exits_2(arguments: list[str], message: str, capsys: pytest.CaptureFixture[str]) -> None:
    status, _, err = said(capsys, *arguments)
    assert (status, message in err) == (2, True), err


CASES = """\
version: 2
variables: {kind: command}
cases:
  - question: hello
    checks: {contains: "says hello", max_tokens: 3}
  - name: wrong [x]
    question: bye
    variables: {kind: word}
    max_tokens: 5
    checks: {equals: "p says hello"}
"""


@pytest.fixture
def cases(tmp_path: Path) -> Path:
    file = tmp_path / "cases.yaml"
    file.write_text(CASES)
    return file


def test_cases_are_run_and_their_failures_told(
    known: Services, capsys: pytest.CaptureFixture[str], cases: Path, tmp_path: Path
) -> None:
    status, out, _ = said(capsys, "test", "p", str(cases), "--junit", str(tmp_path / "out.xml"))
    assert status == 1
    assert all(part in out for part in ("1 of 2 passed", "wrong [x]", "equals", "p says hello", "p says bye"))
    first, second = sorted(chats(known), key=lambda asked: "max_tokens" in asked)
    assert first["prompt"] == {"id": "p", "version": "2", "variables": {"kind": "command"}}
    assert second["prompt"]["variables"] == {"kind": "word"}
    assert (first["temperature"], second["max_tokens"], first["store"]) == (0.0, 5, False)
    assert b'failures="1"' in (tmp_path / "out.xml").read_bytes()


def test_the_exit_status_says_whether_all_passed(
    known: Services, capsys: pytest.CaptureFixture[str], cases: Path
) -> None:
    cases.write_text(CASES.replace("p says hello", "p says bye"))
    status, out, _ = said(capsys, "test", "p", str(cases), "--json")
    document = json.loads(out)
    assert (status, document["passed"], document["failed"], document["prompt"]) == (0, 2, 0, 2)
    status, out, _ = said(capsys, "test", "p", str(cases), "--model", "p", "--model", "p@2", "--json")
    assert (status, [(r["model"], r["passed"]) for r in json.loads(out)["results"]]) == (
        1,
        [("p", True), ("p@2", True), ("p", True), ("p@2", False)],
    )


def test_cases_that_cannot_be_run_are_no_failures(
    known: Services, capsys: pytest.CaptureFixture[str], cases: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    known.say("GET", "/v1/projects/p/prompts/9", (404, {"error": {"message": "it has 1 to 2"}}))
    status, _, err = said(capsys, "test", "p", str(cases), "--model", "other", "--version", "9")
    assert (status, "it has 1 to 2" in err) == (2, True)
    status, _, err = said(capsys, "test", "p", str(cases), "--model", "p@99")
    assert (status, "no version 99" in err) == (2, True)
    monkeypatch.setenv("NORIA_SERVING_PORT", "1")
    status, _, err = said(capsys, "test", "p", str(cases))
    assert (status, "does not answer" in err) == (2, True)
    cases.write_text(CASES.replace("equals", "equal"))
    status, out, _ = said(capsys, "test", "p", str(cases), "--json")
    assert (status, json.loads(out)["error"]["detail"][0]["line"]) == (2, 10)


def test_a_case_that_is_refused_fails_alone(known: Services, capsys: pytest.CaptureFixture[str], cases: Path) -> None:
    cases.write_text(CASES.replace("question: bye", "question: refuse"))
    status, out, _ = said(capsys, "test", "p", str(cases), "--json")
    [failure] = json.loads(out)["results"][1]["failures"]
    assert (status, failure["check"], failure["got"]) == (1, "answer", "context_length_exceeded: too long")


def test_who_comes_too_early_is_asked_again(known: Services, capsys: pytest.CaptureFixture[str], cases: Path) -> None:
    waiting = [0, 0, 0]

    def busy(path: str, body: bytes) -> tuple[int, Any, dict[str, str]]:
        if waiting:
            waiting.pop()
            return 503, {"error": {"code": "overloaded", "message": "full"}}, {"retry-after": "0.01"}
        return answered(path, body)

    known.compute("POST", CHAT, busy)
    assert json.loads(said(capsys, "test", "p", str(cases), "--json")[1])["passed"] == 1
    assert len(chats(known)) == 5


def row(side: str, name: str, user: str, assistant: str) -> dict[str, Any]:
    turns = [{"role": "user", "content": user}, {"role": "assistant", "content": assistant}]
    return {"split": side, "record_id": name, "record": {"messages": turns}, "digest": name, "tags": {}}


ROWS = {
    "train": [row("train", f"t{i}", f"tar: list archive {i}", f"tar -tf {i}.tar") for i in range(6)]
    + [row("train", f"g{i}", f"git: undo commit {i}", f"git reset HEAD~{i}") for i in range(3)]
    + [row("train", "long", "x" * 900, "y"), row("train", "odd", "zebra", "quagga")],
    "validation": [row("validation", "v", "git: undo", "git revert")],
    "held_out": [row("held_out", "h", "tar: list archive 7", "tar -tf 7.tar")],
}


@pytest.fixture
def dataset(services: Services) -> Services:
    """Prep has dataset 3 of p, whose rows it gives by side and by the digest's filter."""

    def rows(path: str, body: bytes) -> tuple[int, Any, dict[str, str]]:
        asked = parse_qs(urlsplit(path).query)
        behind = "<" not in asked["where"][0]
        found = [one for side in asked.get("split", ROWS) for one in ROWS[side]] if behind else []
        return 200, {"items": found[: int(asked["limit"][0])], "next": None}, {}

    services.say("GET", "/v1/datasets", (200, {"items": [{"number": 3}], "next": None}))
    services.compute("GET", "/v1/datasets/p/3/rows", rows)
    return services


def test_examples_stand_for_many_and_come_from_the_training_side(
    dataset: Services, capsys: pytest.CaptureFixture[str]
) -> None:
    status, out, _ = said(capsys, "examples", "p", "--count", "2")
    found = yaml.safe_load(out)["prompt"]["examples"]
    assert (status, [one["user"].split(":")[0] for one in found]) == (0, ["tar", "git"])
    assert Prompt.model_validate({"examples": found})
    status, out, _ = said(capsys, "examples", "p", "--count", "30", "--json")
    document = json.loads(out)
    assert set(document["records"]) == {one["record_id"] for one in ROWS["train"]} - {"long"}
    asked = [parse_qs(urlsplit(path).query)["split"] for _, path, _ in dataset.asked if "/rows" in path]
    assert asked
    assert all(sides == ["train"] for sides in asked)


def test_a_row_of_another_side_is_never_used(dataset: Services, capsys: pytest.CaptureFixture[str]) -> None:
    for side in ("held_out", "validation"):
        page = {"items": ROWS["train"] + ROWS[side], "next": None}
        dataset.compute("GET", "/v1/datasets/p/3/rows", lambda path, body, page=page: (200, page, {}))
        status, out, err = said(capsys, "examples", "p")
        assert (status, out, f"a row of '{side}'" in err) == (1, "", True)


def test_another_seed_looks_at_other_rows(dataset: Services, capsys: pytest.CaptureFixture[str]) -> None:
    for seed in ("1", "2", "1"):
        assert said(capsys, "examples", "p", "--seed", seed)[0] == 0
    where = [parse_qs(urlsplit(path).query)["where"][0] for _, path, _ in dataset.asked if "/rows" in path]
    one, two, again = [text for text in where if ">=" in text]
    assert one == again != two
    assert {text.replace("<", ">=") for text in where} == {one, two}, "rows before the digest follow those behind it"


@pytest.mark.parametrize("call", [("test", "p", "CASES"), ("try", "p", "one", "--model", "p", "--model", "p@2")])
def test_ctrl_c_ends_it_while_answers_are_out(
    known: Services, capsys: pytest.CaptureFixture[str], cases: Path, call: tuple[str, ...]
) -> None:
    released = threading.Event()

    def silent(path: str, body: bytes) -> tuple[int, Any, dict[str, str]]:
        os.kill(os.getpid(), signal.SIGINT)
        released.wait(30)
        return answered(path, body)

    known.compute("POST", CHAT, silent)
    began = time.monotonic()
    try:
        status, _, _ = said(capsys, *(str(cases) if part == "CASES" else part for part in call), "--at-once", "1")
    finally:
        released.set()
    assert (status, time.monotonic() - began < 10) == (130, True)
