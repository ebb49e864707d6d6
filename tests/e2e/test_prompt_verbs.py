"""`noria prompt` on real parts: the tuned model beside its base, cases, and examples of a dataset's training side."""

import json
from pathlib import Path

from tests.e2e.conftest import PROJECT, Stack

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


def test_examples_are_of_the_training_side(loop: Stack) -> None:
    found = loop.json("prompt", "examples", PROJECT, "--count", "5")
    rows = loop.json("datasets", "show", found["dataset"], "--limit", "500")["items"]
    sides = {row["record_id"]: row["split"] for row in rows}
    assert set(sides.values()) == {"train", "validation", "held_out"}
    assert [sides[record] for record in found["records"]] == ["train"] * 5
