"""`noria prompt optimise` against a scripted OpenAI-compatible endpoint: GEPA, the budget, going on, what is never asked."""

import importlib.util
import json
import os
import signal
from collections.abc import Callable
from pathlib import Path
from typing import Any
from urllib.parse import parse_qs, urlsplit

import pytest
import yaml

from contracts.prompt import Prompt
from services.cli.app import run
from services.cli.prompts.ledger import BudgetSpent, Ledger, keep_newest
from services.cli.prompts.task import with_text
from tests.conftest import loaded
from tests.unit.cli.conftest import Services

CHAT = "/v1/chat/completions"
ELSEWHERE = "/other/v1/chat/completions"
SPEC: dict[str, Any] = {
    "project": "p",
    "base": "b",
    "prompt": {"system": "Answer."},
    "gate": {"require": ["loss < champion", "chrf > champion"]},
}


def row(side: str, i: int) -> dict[str, Any]:
    turns = [
        {"role": "user", "content": f"{side} question {i}"},
        {"role": "assistant", "content": f"answer {side} {i}"},
    ]
    return {
        "split": side,
        "record_id": f"{side}{i}",
        "record": {"messages": turns},
        "digest": "d",
        "tags": {"kind": "k"},
    }


ROWS = {side: [row(side, i) for i in range(n)] for side, n in (("train", 20), ("validation", 6), ("held_out", 5))}


class Model:
    """Answers rightly to as many rows as its system prompt has good words, and writes one more of them at each reflection."""

    def __init__(self) -> None:
        self.calls = 0
        self.reflections = 0
        self.seen: list[dict[str, Any]] = []
        self.before: Callable[[], None] = lambda: None

    def chat(self, path: str, body: bytes) -> tuple[int, Any, dict[str, str]]:
        self.before()
        asked = json.loads(body)
        self.calls += 1
        self.seen.append(asked)
        if asked["messages"][0]["role"] != "system":
            return self.reflect(path, body, counted=True)
        system, question = asked["messages"][0]["content"], asked["messages"][-1]["content"]
        side, _, number = question.split()
        right = int(number) % 4 < system.count("good")
        return chat(f"answer {side} {number}" if right else "no idea")

    def reflect(self, path: str, body: bytes, counted: bool = False) -> tuple[int, Any, dict[str, str]]:
        self.calls += not counted
        self.reflections += 1
        prompt = json.loads(body)["messages"][0]["content"]
        words = prompt.split("```")[1].strip()
        return chat(f"Here it is:\n```\n{words} good\n```")


def chat(text: str) -> tuple[int, Any, dict[str, str]]:
    return 200, {"id": "r", "choices": [{"message": {"content": text}, "finish_reason": "stop"}], "usage": {}}, {}


@pytest.fixture
def model(services: Services, monkeypatch: pytest.MonkeyPatch, tmp_path: Path) -> Model:
    monkeypatch.setenv("NORIA_HOME", str(tmp_path / "home"))
    monkeypatch.setenv("NORIA_API_KEY", "noria-key")
    found = Model()

    def rows(path: str, body: bytes) -> tuple[int, Any, dict[str, str]]:
        asked = parse_qs(urlsplit(path).query)
        items = ROWS[asked["split"][0]] if ">=" in asked["where"][0] else []
        return 200, {"items": items[: int(asked["limit"][0])], "next": None}, {}

    services.say("GET", "/v1/projects/p", (200, {"spec": SPEC}))
    services.say("GET", "/v1/models", (200, {"items": [{"version": 5}, {"version": 4, "serves": True}], "next": None}))
    services.say("GET", "/v1/datasets", (200, {"items": [{"number": 2}], "next": None}))
    services.say("POST", "/v1/projects", (200, {"project": "p", "revision": "e" * 64, "changed": True}))
    services.compute("GET", "/v1/datasets/p/2/rows", rows)
    services.compute("POST", CHAT, found.chat)
    services.compute("POST", ELSEWHERE, found.reflect)
    return found


def searched(capsys: pytest.CaptureFixture[str], *arguments: str) -> tuple[int, Any, str]:
    status = run(["prompt", "optimise", "p", *arguments, "--json"])
    captured = capsys.readouterr()
    return status, json.loads(captured.out) if captured.out else None, captured.err


def test_a_better_prompt_is_found_and_made_a_candidate(
    model: Model, services: Services, capsys: pytest.CaptureFixture[str], tmp_path: Path
) -> None:
    out = tmp_path / "prompt.yaml"
    status, found, _ = searched(capsys, "--budget", "200", "--out", str(out), "--apply")
    assert status == 0
    assert (found["metric"], found["model"], found["rows"]) == ("chrf", "p@4", 6)
    assert found["prompt"]["system"].count("good") == 4
    assert (found["after"]["value"], found["before"]["value"] < 40) == (100.0, True)
    assert found["difference"]["low"] > 0
    assert found["calls"] == model.calls <= 200
    assert yaml.safe_load(out.read_text()) == {"prompt": {"system": found["prompt"]["system"]}}
    applied = [json.loads(body) for method, path, body in services.asked if (method, path) == ("POST", "/v1/projects")]
    assert [spec["prompt"]["system"] for spec in applied] == [found["prompt"]["system"]]
    assert applied[0]["gate"] == {"require": ["loss < champion", "chrf > champion"], "approval": "none"}


def test_only_training_rows_are_reflected_on_and_held_out_rows_never_asked(
    model: Model, services: Services, capsys: pytest.CaptureFixture[str]
) -> None:
    searched(capsys, "--budget", "120")
    asked = [parse_qs(urlsplit(path).query)["split"] for _, path, _ in services.asked if "/rows" in path]
    assert {side for sides in asked for side in sides} == {"train", "validation"}
    reflections = [one["messages"][0]["content"] for one in model.seen if one["messages"][0]["role"] == "user"]
    assert reflections
    assert all("train question" in text and "answer train" in text for text in reflections)
    assert not any("validation" in text for text in reflections)
    tasks = [one for one in model.seen if one["messages"][0]["role"] == "system"]
    assert all((one["temperature"], one["store"], one["max_tokens"]) == (0.0, False, 256) for one in tasks)


@pytest.mark.parametrize("budget", [21, 22, 25, 34, 40, 57, 83])
def test_the_budget_is_a_bound(model: Model, capsys: pytest.CaptureFixture[str], budget: int) -> None:
    status, found, _ = searched(capsys, "--budget", str(budget))
    assert status == 0
    assert model.calls <= budget
    assert found["calls"] == model.calls
    assert found["ended"] == "budget"


def test_too_small_a_budget_is_told_before_anything_is_asked(model: Model, capsys: pytest.CaptureFixture[str]) -> None:
    status, found, _ = searched(capsys, "--budget", "16")
    assert (status, model.calls) == (2, 0)
    assert "give --budget 17 or more" in found["error"]["message"]


def stopping(model: Model, after: int, how: Callable[[], None]) -> None:
    """Lets a model stop the search at a call."""
    model.calls = 0

    def before() -> None:
        if model.calls == after:
            model.before = lambda: None
            how()

    model.before = before


def ctrl_c() -> None:
    os.kill(os.getpid(), signal.SIGINT)


def break_off() -> None:
    raise ConnectionAbortedError


@pytest.mark.parametrize("after", [3, 40])
@pytest.mark.parametrize("how", [ctrl_c, break_off])
def test_a_search_that_was_stopped_goes_on_where_it_was(
    model: Model,
    capsys: pytest.CaptureFixture[str],
    tmp_path: Path,
    monkeypatch: pytest.MonkeyPatch,
    how: Callable[[], None],
    after: int,
) -> None:
    _, whole, _ = searched(capsys, "--budget", "90")
    monkeypatch.setenv("NORIA_HOME", str(tmp_path / "another"))
    stopping(model, after, how)
    status, first, err = searched(capsys, "--budget", "90")
    assert (status, "goes on from there" in err or after == 3) == (130 if how is ctrl_c else 1, True)
    assert model.calls <= after + 8
    if after > 6 + 8:
        assert first["before"] == whole["before"], "the best so far is told"
    status, second, _ = searched(capsys, "--budget", "90")
    assert status == 0
    assert model.calls <= second["calls"] <= 90, "a call that was lost counts"
    assert second["after"] == whole["after"]
    asked = model.calls
    assert searched(capsys, "--budget", "90")[1]["prompt"] == second["prompt"]
    assert model.calls == asked, "what was answered is not asked again"
    assert searched(capsys, "--budget", "90", "--restart")[0] == 0
    assert model.calls > asked


def test_a_larger_budget_goes_further(model: Model, capsys: pytest.CaptureFixture[str]) -> None:
    _, small, _ = searched(capsys, "--budget", "40")
    used = model.calls
    _, large, _ = searched(capsys, "--budget", "45")
    assert (large["rows"], small["rows"]) == (6, 6)
    assert used <= model.calls <= 45
    assert large["after"]["value"] >= small["after"]["value"]


def test_another_endpoint_reflects_with_its_own_key(
    model: Model, services: Services, capsys: pytest.CaptureFixture[str], monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setenv("OTHER_KEY", "other-key")
    there = ("--reflect", f"{services.url}/other/v1", "--reflect-model", "big")
    status, found, _ = searched(capsys, "--budget", "100", *there, "--reflect-key", "OTHER_KEY")
    assert (status, found["reflect"], found["better"]) == (0, "big", True)
    keys = {path: key for (_, path, _), key in zip(services.asked, services.keys, strict=True)}
    assert (keys[ELSEWHERE], keys[CHAT]) == ("Bearer other-key", "Bearer noria-key")
    reflections = [json.loads(body) for _, path, body in services.asked if path == ELSEWHERE]
    assert all((one["model"], "store" in one) == ("big", False) for one in reflections)
    assert all(one["messages"][0]["role"] == "system" for one in model.seen)
    assert model.calls == found["calls"] <= 100
    for wrong in (there[:2], ("--reflect-model", "big"), (*there, "--reflect-key", "sk-secret")):
        status, found, _ = searched(capsys, "--budget", "100", *wrong)
        assert (status, "sk-secret" in json.dumps(found)) == (2, False)


def test_nothing_better_is_said_so_and_nothing_is_applied(
    model: Model, services: Services, capsys: pytest.CaptureFixture[str], tmp_path: Path
) -> None:
    services.compute("POST", CHAT, lambda path, body: chat("```\nno idea\n```"))
    out = tmp_path / "prompt.yaml"
    status, found, _ = searched(capsys, "--budget", "60", "--apply", "--out", str(out))
    assert (status, found["better"], found["prompt"]["system"], out.exists()) == (0, False, "Answer.", False)
    assert not [path for method, path, _ in services.asked if (method, path) == ("POST", "/v1/projects")]
    run(["prompt", "optimise", "p", "--budget", "60"])
    assert "nothing better was found: chrf on 6 validation rows" in capsys.readouterr().out.replace("\n", " ")


def test_a_reflecting_model_that_refuses_ends_the_search(
    model: Model, services: Services, capsys: pytest.CaptureFixture[str]
) -> None:
    refusal = {"error": {"code": "context_length_exceeded", "message": "too long"}}
    services.compute("POST", ELSEWHERE, lambda path, body: (400, refusal, {}))
    there = ("--reflect", f"{services.url}/other/v1", "--reflect-model", "small")
    status, found, err = searched(capsys, "--budget", "200", *there)
    assert (status, len(found["refused"]), found["better"]) == (1, 3, False)
    assert "the reflecting model refuses: context_length_exceeded: too long" in err
    services.compute("POST", ELSEWHERE, lambda path, body: (401, {"error": {"message": "no key"}}, {}))
    status, found, err = searched(capsys, "--budget", "200", *there, "--restart")
    assert (status, found["written"], "no key" in err) == (1, 0, True)


def test_an_instruction_that_no_project_could_have_is_not_asked(
    model: Model, services: Services, capsys: pytest.CaptureFixture[str]
) -> None:
    template = {"system": "Be {{ kind }}.", "variables": {"kind": None}}
    services.say("GET", "/v1/projects/p", (200, {"spec": SPEC | {"prompt": template}}))
    _, found, _ = searched(capsys, "--budget", "120")
    shown = [one["messages"][0]["content"] for one in model.seen if one["messages"][0]["role"] == "system"]
    assert shown[0] == "Be k.", "a variable is the row's tag of its name"
    asked = next(one["messages"][0]["content"] for one in model.seen if one["messages"][0]["role"] == "user")
    assert "{{ kind }}" in asked
    assert found["prompt"]["system"].startswith("Be {{ kind }}.")
    assert found["prompt"]["variables"] == {"kind": None}
    for text in ("", "Be {{ nobody }}.", "Be kind.", "x" * 30_000):
        with pytest.raises(ValueError):  # noqa: PT011 - the words are the contracts'
            with_text(Prompt.model_validate(template), text)


def test_what_is_missing_is_named_with_how_to_install_it(
    model: Model, capsys: pytest.CaptureFixture[str], monkeypatch: pytest.MonkeyPatch
) -> None:
    there = importlib.util.find_spec
    monkeypatch.setattr(importlib.util, "find_spec", lambda name, *a: None if name == "gepa" else there(name, *a))
    status, found, _ = searched(capsys, "--budget", "100")
    assert (status, model.calls) == (2, 0)
    assert "the search needs gepa" in found["error"]["message"]
    assert "pip install 'noria[optimise]'" in found["error"]["message"]


@pytest.mark.parametrize(
    ("change", "message"),
    [
        ({"evaluate": {"suite": ["loss"]}, "gate": {"require": []}}, "measures no answers"),
        ({"evaluate": {"suite": ["loss", "bleu"]}, "gate": {"require": ["loss < champion"]}}, "bleu"),
    ],
)
def test_the_metric_is_the_gate_s_or_the_suite_s(
    model: Model, services: Services, capsys: pytest.CaptureFixture[str], change: dict[str, Any], message: str
) -> None:
    services.say("GET", "/v1/projects/p", (200, {"spec": SPEC | change}))
    _, found, _ = searched(capsys, "--budget", "60")
    assert message in (found.get("metric") or found["error"]["message"])


def test_a_side_without_rows_is_told(
    model: Model, capsys: pytest.CaptureFixture[str], monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setitem(ROWS, "validation", [])
    status, found, _ = searched(capsys, "--budget", "60")
    assert (status, model.calls) == (2, 0)
    assert "the validation side of p@2 has no row" in found["error"]["message"]


def test_a_call_counts_before_it_is_sent(model: Model, services: Services, tmp_path: Path) -> None:
    from services.cli.prompts.asking import Endpoint

    there, file = Endpoint(f"{services.url}/v1", {}, "x"), tmp_path / "l.jsonl"
    bodies = [{"messages": [{"role": "system", "content": "s"}, {"content": f"train q {i}"}]} for i in range(4)]
    ledger = Ledger(file, 5, at_once=2)
    assert len(ledger.ask(there, [bodies[0], bodies[0], bodies[1]])) == 3
    assert (ledger.used, ledger.left, model.calls) == (2, 3, 2)
    file.write_text(file.read_text() + '{"asked": "gone"}\n{"asked": "cu')
    again = Ledger(file, 5)
    assert (again.used, again.left) == (1, 4)
    again.ask(there, bodies[:2])
    assert (again.used, model.calls) == (3, 2)
    with pytest.raises(BudgetSpent):
        again.ask(there, [*bodies, bodies[0] | {"n": 1}])
    assert model.calls == 2, "of what is too much nothing is asked"
    again.ask(there, bodies)
    assert (again.used, again.left, model.calls) == (5, 0, 4)


def test_the_search_loads_no_client_of_providers_and_no_torch() -> None:
    code = "import gepa.api, services.cli.prompts.search, services.cli.prompts.outcome"
    assert loaded(code, "litellm", "dspy", "torch", "transformers", "mlflow", "wandb", "openai") == set()


def test_old_searches_make_room(tmp_path: Path) -> None:
    for i in range(5):
        file = tmp_path / f"{i}.jsonl"
        file.touch()
        os.utime(file, (i, i))
    keep_newest(tmp_path, 2)
    assert sorted(file.name for file in tmp_path.iterdir()) == ["3.jsonl", "4.jsonl"]
