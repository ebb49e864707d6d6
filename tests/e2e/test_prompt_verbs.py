"""`noria prompt` on real parts: the tuned model beside its base, cases, and examples of a dataset's training side."""

import json
from pathlib import Path
from typing import Any

import yaml

from tests.e2e.conftest import PROJECT, Stack

FIRST: dict[str, Any] = {"system": "Answer with one command only."}
SECOND: dict[str, Any] = {
    "system": "You know {{ what }} well.\nAnswer with one command only.",
    "variables": {"what": None},
    "examples": [{"user": "ls: list all files", "assistant": "ls -a"}],
}
CASES = """cases:
  - {question: "tar: list the files in an archive", max_tokens: 16, checks: {matches: "^tar", max_tokens: 16}}
  - {question: "ls: list all", checks: {equals: "nothing that a model says"}}"""


def test_a_prompt_is_tried_and_tested(loop: Stack, tmp_path: Path) -> None:
    asked = ("prompt", "try", PROJECT, "tar: list the files in an archive", "--max-tokens", "16")
    tuned, base = loop.json(*asked, "--model", f"{PROJECT}@1", "--model", f"{PROJECT}@base")["answers"]
    assert (tuned["version"], base["version"], tuned["text"][:3]) == ("1", "0", "tar")
    assert tuned["text"] != base["text"]
    file = tmp_path / "cases.yaml"
    file.write_text(CASES)
    done = loop.run("prompt", "test", PROJECT, str(file), "--model", f"{PROJECT}@1", "--json")
    assert done.returncode == 1, done.stdout + done.stderr
    first, second = json.loads(done.stdout)["results"]
    assert (first["passed"], first["failures"], second["failures"][0]["check"]) == (True, [], "equals")


def test_prompts_are_numbered_shown_and_compared(loop: Stack, tmp_path: Path) -> None:
    file = tmp_path / "project.yaml"
    for prompt in (FIRST, SECOND):
        file.write_text(yaml.safe_dump({"project": "prompted", "base": "smollm2-135m-instruct", "prompt": prompt}))
        loop.json("apply", str(file))
    assert [each["version"] for each in loop.json("prompt", "list", "prompted")["items"]] == [2, 1]
    assert yaml.safe_load(loop.run("prompt", "show", "prompted").stdout) == {"prompt": SECOND}
    assert yaml.safe_load(loop.run("prompt", "show", "prompted@1").stdout) == {"prompt": FIRST}
    assert set(loop.json("prompt", "diff", "prompted", "1", "2")["changes"]) == set(SECOND)


def test_the_gateway_and_the_command_line_put_the_same_prompt_before_a_question(loop: Stack, tmp_path: Path) -> None:
    shown = loop.run("prompt", "show", f"{PROJECT}@1").stdout
    file = tmp_path / "project.yaml"
    file.write_text(f"project: {PROJECT}\nbase: b\n{shown}")
    asked = ("prompt", "try", PROJECT, "tar: list it", "--model", f"{PROJECT}@1", "--max-tokens", "4")
    [there] = loop.json(*asked, "--version", "1")["answers"]
    [here] = loop.json(*asked, "--prompt", str(file))["answers"]
    assert there["text"]
    assert there["prompt_tokens"] == here["prompt_tokens"]
    file.write_text(yaml.safe_dump({"project": PROJECT, "base": "b", "prompt": SECOND}))
    [longer] = loop.json(*asked, "--prompt", str(file), "--var", "what=tar")["answers"]
    assert longer["prompt_tokens"] > here["prompt_tokens"], "examples stand before the question"
    refused = loop.run(*asked, "--version", "1", "--var", "what=tar", "--json")
    assert (refused.returncode, "what" in json.loads(refused.stdout)["answers"][0]["error"]) == (1, True)
    cases = tmp_path / "cases.yaml"
    cases.write_text(CASES)
    missing = loop.run("prompt", "test", PROJECT, str(cases), "--version", "9999")
    assert (missing.returncode, "9999" in missing.stderr) == (2, True)


def test_examples_are_of_the_training_side(loop: Stack) -> None:
    found = loop.json("prompt", "examples", PROJECT, "--count", "5")
    rows = loop.json("datasets", "show", found["dataset"], "--limit", "20000")["items"]
    sides = {row["record_id"]: row["split"] for row in rows}
    assert set(sides.values()) == {"train", "validation", "held_out"}
    assert [sides[record] for record in found["records"]] == ["train"] * 5
