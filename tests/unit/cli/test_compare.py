"""`noria compare`: which versions are asked for, and what is said; the document is what the evaluator gives for it."""

import json
from typing import Any
from urllib.parse import parse_qs, urlsplit

import pytest

from contracts.evaluation import RIGHT
from services.cli.app import run
from services.evaluator.domain.comparison import MeasuredRow, Side, compare, verdict
from services.evaluator.domain.predictions import Scores
from tests.unit.cli.conftest import Services

ASKED = "/v1/comparisons/p"
HOSTILE = "ls\x1b[2J [bold]x[/bold]"


def document() -> dict[str, Any]:
    n = 40
    tags = [{"tool": "tar" if i < 20 else "awk", "origin": "feedback" if i < 2 else "product"} for i in range(n)]
    rows = [MeasuredRow(f"r{i}", f"user: q{i}", f"q{i}", "tar -c", tags[i]) for i in range(n)]
    a = Side(rows, ["tar -c"] * n, Scores({"chrf": [50.0 + i % 9 for i in range(n)]}, [1] * n))
    b = Side(rows, [HOSTILE] * n, Scores({"chrf": [(20.0 if i < 20 else 51.0) + i % 5 for i in range(n)]}, [1] * n))
    found = compare(a, b, RIGHT)
    sides = {"a": {"model": "p@1", "version": 1}, "b": {"model": "p@2", "version": 2}}
    words = {"verdict": verdict("p@1", "p@2", found["metrics"], n, n), "advice": "to have both, measure one"}
    return json.loads(json.dumps({**sides, **words, "rows": {"words": "not measured on the same rows"}, **found}))


def version(number: int, stage: str = "archived", **more: Any) -> dict[str, Any]:
    champion = {"name": "p", "version": number - 1}
    return {
        "version": number,
        "run_id": f"run-{number}",
        "stage": stage,
        "is_champion": False,
        "champion": champion,
        **more,
    }


@pytest.fixture
def stack(services: Services) -> Services:
    services.say("GET", ASKED, (200, document()))
    for number in (1, 2, 3):
        services.say("GET", f"/v1/models/p/{number}", (200, version(number)))
    return services


def asked(services: Services) -> dict[str, str]:
    [path] = [path for _, path, _ in services.asked if path.startswith(ASKED)]
    return {name: value for name, [value] in parse_qs(urlsplit(path).query).items()}


def test_two_versions_are_told_with_verdict_intervals_parts_and_answers(
    stack: Services, capsys: pytest.CaptureFixture[str]
):
    assert run(["compare", "p@1", "p@2"]) == 0
    assert asked(stack) == {"a": "1", "b": "2", "a_run": "run-1", "b_run": "run-2"}
    out = capsys.readouterr().out
    shown = " ".join(out.split())
    for told in (
        "p@2 is worse than p@1 by chrf -",
        "not measured on the same rows",
        "to have both, measure one",
        "p by Holm",
        "tool = tar: chrf 22 against",
        "2 lost to p@1",
        "lost: r0, r1",
        "the answers that differ most by chrf, of 40 that are not the same",
        "should be: tar -c",
        "[bold]x[/bold]",
        "as a page, with 20 answers: http://127.0.0.1:",
    ):
        assert told in shown
    assert "\x1b" not in out
    assert shown.count("should be:") == 5


def test_programs_get_the_document_with_the_page(stack: Services, capsys: pytest.CaptureFixture[str]):
    assert run(["compare", "p@1", "p@2", "--json"]) == 0
    found = json.loads(capsys.readouterr().out)
    page = found.pop("page")
    assert found == document()
    assert page == f"{stack.url}{ASKED}/page?a=1&b=2&a_run=run-1&b_run=run-2"


def test_a_version_alone_is_compared_with_what_it_was_measured_beside(stack: Services):
    assert run(["compare", "p@3"]) == 0
    assert asked(stack) == {"a": "2", "b": "3", "a_run": "run-2", "b_run": "run-3"}


def test_the_base_has_no_run(stack: Services):
    assert run(["compare", "p@0", "p@2"]) == 0
    assert asked(stack) == {"a": "0", "b": "2", "b_run": "run-2"}


@pytest.mark.parametrize(("champion", "a"), [(True, {"a": "1", "a_run": "run-1"}), (False, {"a": "0"})])
def test_of_a_project_the_newest_candidate_is_compared_with_the_champion(
    stack: Services, champion: bool, a: dict[str, str]
):
    known = [version(3, "candidate"), version(2, "candidate"), version(1, "production", is_champion=champion)]
    stack.say("GET", "/v1/models", (200, {"items": known, "next": None}))
    assert run(["compare", "p"]) == 0
    assert asked(stack) == {**a, "b": "3", "b_run": "run-3"}


@pytest.mark.parametrize(
    ("arguments", "says"),
    [
        (["p@1", "q@1"], "two projects"),
        (["p@1", "p@1"], "with itself"),
        (["p", "p@1"], "give it alone"),
        (["p@0"], "beside no version"),
        (["p@9"], "beside no version"),
        (["p@x", "p@1"], "names no model version"),
        (["p"], "no candidate"),
    ],
)
def test_what_cannot_be_compared_exits_2(
    stack: Services, capsys: pytest.CaptureFixture[str], arguments: list[str], says: str
):
    stack.say("GET", "/v1/models/p/9", (200, version(9, champion=None)))
    stack.say("GET", "/v1/models", (200, {"items": [version(1, "production")], "next": None}))
    assert run(["compare", *arguments]) == 2
    assert says in capsys.readouterr().err


def test_what_the_evaluator_refuses_is_told(stack: Services, capsys: pytest.CaptureFixture[str]):
    refusal = {
        "error": {"code": "no_common_rows", "message": "they have none in common; `noria evaluate p@2` measures"}
    }
    stack.say("GET", ASKED, (409, refusal))
    assert run(["compare", "p@1", "p@2"]) == 1
    assert "none in common" in capsys.readouterr().err
