"""`evaluate.judge` of a project file, and when a gate counts what a judge found."""

from typing import Any

import pytest
from pydantic import ValidationError

from contracts.judge import Judge, JudgeReport, why_not, words
from contracts.project import ProjectSpec
from contracts.types import Metric

GIVEN: dict[str, Any] = {"url": "https://api.example.com/v1/", "model": "large-1", "rubric": "The right command wins."}


def spec(require: list[str], judge: dict[str, Any] | None = None) -> ProjectSpec:
    evaluate = {} if judge is None else {"judge": judge}
    return ProjectSpec.model_validate(
        {"project": "shop", "base": "b", "evaluate": evaluate, "gate": {"require": require}}
    )


def report(**more: Any) -> JudgeReport:
    kappa = Metric(value=0.7, low=0.45, high=0.85, n=60)
    given = {"model": "large-1", "host": "api.example.com", "floor": 0.4, "asked": 91, "judged": 91, "kappa": kappa}
    return JudgeReport.model_validate({**given, **more})


def test_a_project_without_a_judge_is_written_as_before_there_were_any() -> None:
    assert "judge" not in ProjectSpec(project="shop", base="b").model_dump_json()
    with_judge = spec(["judge > champion", "judge >= 55"], GIVEN)
    assert ProjectSpec.model_validate_json(with_judge.model_dump_json()) == with_judge
    assert with_judge.evaluate.judge is not None
    assert with_judge.evaluate.judge.url == "https://api.example.com/v1"


def test_a_rule_on_a_judge_needs_one_and_takes_no_margin() -> None:
    with pytest.raises(ValidationError, match=r"names 'judge', which evaluate\.judge does not measure"):
        spec(["judge > champion"])
    with pytest.raises(ValidationError, match="give 'judge > 55' for a margin of 5"):
        spec(["judge > champion + 5"], GIVEN)


@pytest.mark.parametrize(
    ("changed", "said"),
    [
        ({"url": "https://me:secret@api.example.com/v1"}, "a secret is named in 'key'"),
        ({"rubric": ""}, "at least 1 character"),
        ({"budget": 5}, "a budget needs a price"),
        ({"floor": 1.5}, "less than or equal to 1"),
        ({"calls": 0}, "greater than or equal to 1"),
        ({"within": "0s"}, "greater than 0"),
        ({"verdict": "stars"}, "Input should be"),
        ({"rubrik": "x"}, "Extra inputs"),
    ],
)
def test_what_cannot_be_is_refused(changed: dict[str, Any], said: str) -> None:
    with pytest.raises(ValidationError, match=said):
        Judge.model_validate(GIVEN | changed)


def test_a_judge_counts_that_agrees_with_people_and_judged_nearly_all() -> None:
    assert why_not(report()) is None
    assert why_not(report(judged=82)) is None


@pytest.mark.parametrize(
    ("changed", "said"),
    [
        ({"judged": 81}, "judged 81 of 91 examples, of which 90% are needed"),
        ({"judged": 0, "asked": 0}, "judged 0 of 0 examples"),
        ({"judged": 5, "ended": "the budget is spent"}, r"5 of 91 examples \(the budget is spent\)"),
        ({"kappa": None}, "agreement with people is not known"),
        ({"floor": 0.5}, r"kappa 0\.70 \[0\.45, 0\.85\] on 60 pairs, does not reach 0\.5"),
    ],
)
def test_another_does_not_and_it_is_told_why(changed: dict[str, Any], said: str) -> None:
    import re

    assert re.search(said, why_not(report(**changed)) or "")
    assert any(sentence.startswith("no rule on it holds: ") for sentence in words(report(**changed)))


def test_without_a_report_no_judge_was_asked() -> None:
    assert why_not(None) == "no judge was asked"
