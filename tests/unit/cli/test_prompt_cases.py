"""A file of cases, and the checks of an answer."""

import json
import re
import time
from pathlib import Path
from typing import Any
from xml.etree.ElementTree import fromstring

import pytest
from hypothesis import given
from hypothesis import strategies as st

from services.cli.prompts import junit
from services.cli.prompts.asking import Answer
from services.cli.prompts.cases import Checks, parse
from services.cli.prompts.checks import CHECKS, Failure, Given, failures, schema_fault
from services.cli.prompts.trial import Result, Trial
from services.cli.yaml_file import FileInvalid
from tests.unit.cli.conftest import Services

ROOT = Path(__file__).parents[3]
GOOD = """\
version: 2
variables: {team: ops}
max_tokens: 40
cases:
  - question: "tar: list it"
    checks: {contains: tar, not_contains: [rm, sudo]}
  - name: json
    messages:
      - {role: user, content: a}
      - {role: assistant, content: b}
      - {role: user, content: c}
    variables: {team: dev}
    checks:
      json_schema: {type: object, required: [a]}
      max_seconds: 1.5
"""


def test_a_file_of_cases_is_read() -> None:
    found = parse(GOOD.encode())
    first, second = found.cases
    assert first.checks.listed() == [("contains", "tar"), ("not_contains", "rm"), ("not_contains", "sudo")]
    assert (first.turns, first.title) == ([{"role": "user", "content": "tar: list it"}], "tar: list it")
    assert (second.title, len(second.turns), second.variables) == ("json", 3, {"team": "dev"})
    assert [name for name, _ in second.checks.listed()] == ["json_schema", "max_seconds"]


@pytest.mark.parametrize(
    ("old", "new", "expected"),
    [
        ("contains: tar", "contain: tar", "line 6: cases.0.checks.contain is not known; did you mean contains?"),
        ("contains: tar", "contains: 3", "line 6: cases.0.checks.contains is 3; it should be a valid string"),
        ("contains: tar", "matches: '(a'", "line 6: cases.0.checks.matches is '(a'; it is no pattern of RE2"),
        ("contains: tar", "matches: '(?=a)'", "line 6: cases.0.checks.matches is '(?=a)'; it is no pattern of RE2"),
        (
            "contains: tar",
            "judge: is it nice",
            "line 6: cases.0.checks.judge is 'is it nice'; judges are not offered yet",
        ),
        ("{contains: tar, not_contains: [rm, sudo]}", "{}", "line 5: checks are empty; give one of contains"),
        ("object, required", "objct, required", "line 14: checks.json_schema cannot be used"),
        ("{type: object", "{$ref: 'http://127.0.0.1/x', type: object", "line 14: checks.json_schema cannot be used"),
        ("{type: object", "{pattern: '(?=a)', type: object", "line 14: checks.json_schema cannot be used"),
        ("max_seconds: 1.5", "max_seconds: yes", "line 15: cases.1.checks.max_seconds is true; it should be a number"),
        (
            "role: assistant",
            "role: judge",
            "line 10: cases.1.messages.1.role is 'judge'; it should be 'system', 'user'",
        ),
        ("{role: user, content: c}", "{role: assistant, content: c}", "line 7: messages end with the user's turn"),
        ("name: json", "question: json", "line 7: a case has either question or messages"),
        ("version: 2", "version: 0", "line 1: version is 0; it should be greater than or equal to 1"),
    ],
)
def test_a_fault_is_told_with_line_and_key(old: str, new: str, expected: str) -> None:
    assert old in GOOD
    with pytest.raises(FileInvalid) as caught:
        parse(GOOD.replace(old, new, 1).encode())
    [problem] = caught.value.problems
    assert str(problem).startswith(expected)


def test_a_list_of_faulty_items_is_not_called_too_short() -> None:
    with pytest.raises(FileInvalid) as caught:
        parse(b"cases:\n  - {question: a, checks: {contain: x}}\n")
    assert [problem.key for problem in caught.value.problems] == ["cases.0.checks.contain"]


def test_a_schema_fetches_nothing(services: Services) -> None:
    assert schema_fault({"$ref": f"{services.url}/schema.json"})
    assert services.asked == []


def test_a_file_without_cases_is_refused() -> None:
    for text in (b"version: 1\n", b"cases: []\n", b"- a\n"):
        with pytest.raises(FileInvalid):
            parse(text)


@pytest.mark.parametrize(
    ("check", "value", "good", "bad"),
    [
        ("contains", "tar -t", "use tar -tf x", "use tar"),
        ("not_contains", "rm", "ls", "rm x"),
        ("equals", "ls -l", " ls -l\n", "ls -L"),
        ("matches", "^tar( -[a-z]+)+$", "tar -t -f", "a tar -t"),
        ("matches", "(?i)ÄB", "xäbx", "xab"),
        ("json_schema", {"type": "object", "required": ["a"]}, '{"a": 1}', '{"b": 1}'),
        ("json_schema", {"type": "integer"}, "3", "```json\n3\n```"),
        ("max_characters", 3, "abc", "abcd"),
    ],
)
def test_checks_of_the_text(check: str, value: Any, good: str, bad: str) -> None:
    assert failures([(check, value)], Given(good, 1, 0.1)) == []
    [failure] = failures([(check, value)], Given(bad, 1, 0.1))
    assert failure.check == check
    assert failure.expected == (value if isinstance(value, str) else json.dumps(value))
    assert failure.got


def test_checks_of_length_and_time() -> None:
    quick = Given("a", 5, 1.0)
    assert failures([("max_tokens", 5), ("max_seconds", 1.0)], quick) == []
    found = failures([("max_tokens", 4), ("max_seconds", 0.5)], quick)
    assert [(f.check, f.got) for f in found] == [("max_tokens", "5 tokens"), ("max_seconds", "1.00 s")]
    assert failures([("max_tokens", 5)], Given("a", None, 1.0))[0].got == "the model does not tell its tokens"


def test_hostile_patterns_schemas_and_answers_take_no_time() -> None:
    began = time.monotonic()
    assert failures([("matches", "^(a+)+$")], Given("a" * 50_000 + "b", 1, 0))
    schema = {"type": "string", "pattern": "^(a+)+$"}
    assert failures([("json_schema", schema)], Given(json.dumps("a" * 50_000 + "b"), 1, 0))
    assert failures([("json_schema", {"type": "array"})], Given("[" * 100_000, 1, 0))
    assert failures([("json_schema", {"type": "number"})], Given("NaN", 1, 0))
    assert time.monotonic() - began < 5


@given(st.text(), st.sampled_from(["contains", "not_contains", "equals"]))
def test_any_text_can_be_checked_and_written(text: str, check: str) -> None:
    held = failures([(check, text)], Given(text, 1, 0.0))
    assert bool(held) is (check == "not_contains")
    result = Result(Trial(text, "m", {}), Answer(text, 0.1), [Failure(check, text, text)])
    case = fromstring(junit.document(text, [result])).find("testsuite/testcase")  # noqa: S314
    assert case is not None
    assert case.find("failure") is not None


def test_junit_counts_by_model() -> None:
    good, bad = Answer("a", 0.1), Answer("b", 0.2)
    wrong = Failure("contains", "a", "b")
    rows = [Result(Trial("x", "m@1", {}), good, []), Result(Trial("x", "m@2", {}), bad, [wrong])]
    suites = fromstring(junit.document("cases.yaml", rows)).findall("testsuite")  # noqa: S314
    assert [(s.get("name"), s.get("tests"), s.get("failures")) for s in suites] == [
        ("m@1", "1", "0"),
        ("m@2", "1", "1"),
    ]
    failure = suites[1].find("testcase/failure")
    assert failure is not None
    assert (failure.get("message"), failure.text) == ("contains: a", "b")


def test_every_check_has_its_key_in_the_file_and_its_line_on_the_page() -> None:
    assert set(Checks.model_fields) - {"judge"} == set(CHECKS)
    rows = [line for line in (ROOT / "docs" / "prompts.md").read_text().splitlines() if line.startswith("| `")]
    assert {name for row in rows for name in re.findall(r"`([a-z_]+)`", row.split("|")[1])} == set(CHECKS)


def test_the_example_s_cases_are_read() -> None:
    assert len(parse((ROOT / "docs" / "examples" / "shell-copilot" / "cases.yaml").read_bytes()).cases) == 3
