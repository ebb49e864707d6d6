from typing import Any

import pytest
from jsonschema import Draft202012Validator
from pydantic import ValidationError

from contracts.canonical import canonical
from contracts.events.registry import ProjectDefinedV1
from contracts.gate import Rule, parse
from contracts.project import Evaluate, GateRules, ProjectSpec
from contracts.schema import project_file_schema, schema


def project(**gate: object) -> dict[str, Any]:
    return {"project": "p", "base": "b", "gate": gate}


@pytest.mark.parametrize(
    ("text", "rule"),
    [
        ("chrf > champion", Rule("chrf", ">", None)),
        ("chrf>=champion-1", Rule("chrf", ">=", None, -1)),
        ("loss < champion + 0.05", Rule("loss", "<", None, 0.05)),
        ("chrf > -1.5", Rule("chrf", ">", -1.5)),
        ("exact_match >= 0.1", Rule("exact_match", ">=", 10)),
        ("exact_match >= 1", Rule("exact_match", ">=", 100)),
        ("exact_match > champion - 0.5", Rule("exact_match", ">", None, -0.5)),
    ],
)
def test_a_rule_is_read_and_written_the_same(text: str, rule: Rule):
    assert parse(text) == rule
    assert parse(str(rule)) == rule


@pytest.mark.parametrize(
    "text", ["chrf is champion", "chrf > champion -", "chrf > champion - -1", "chrf > 1 - champion", ""]
)
def test_what_is_no_rule_is_refused(text: str):
    with pytest.raises(ValueError, match="no gate rule"):
        parse(text)
    with pytest.raises(ValidationError):
        GateRules.model_validate({"require": [text]})


def test_a_margin_stands_apart_so_that_consumers_of_before_read_the_rule():
    spec = ProjectSpec.model_validate(project(require=["chrf > champion - 1", "loss < 2"]))
    assert (spec.gate.require, spec.gate.margins) == (("chrf > champion", "loss < 2"), {"chrf": -1})
    assert list(map(str, spec.gate.rules)) == ["chrf > champion - 1", "loss < 2"]
    again = ProjectSpec.model_validate(spec.model_dump(mode="json"))
    assert again == spec
    event = {"project": "p", "revision": "a" * 64, "spec": spec.model_dump(mode="json")}
    Draft202012Validator(schema(ProjectDefinedV1)).validate(event)


def test_editors_take_a_margin_in_a_file():
    Draft202012Validator(project_file_schema()).validate(project(require=["chrf > champion - 1", "loss <= 2.5"]))
    assert not Draft202012Validator(project_file_schema()).is_valid(project(require=["chrf > champion minus 1"]))


def test_a_gate_of_before_has_the_text_it_had():
    assert canonical(GateRules().model_dump(mode="json")) == '{"approval":"none","require":["chrf > champion"]}'
    assert canonical(Evaluate().model_dump(mode="json")) == (
        '{"compare":"champion","held_out":true,"suite":["loss","exact_match","chrf","rouge_l"]}'
    )
    assert '"regressions":0' in canonical(GateRules(regressions=0).model_dump(mode="json"))
    assert '"alpha":0.01' in canonical(GateRules(alpha=0.01).model_dump(mode="json"))


@pytest.mark.parametrize(
    ("gate", "says"),
    [
        ({"require": ["chrf > champion - 1", "chrf > champion"]}, "two margins"),
        ({"require": ["chrf > champion - 1"], "margins": {"chrf": 2}}, "otherwise than"),
        ({"require": ["chrf > 5"], "margins": {"chrf": 2}}, "no rule compares"),
        ({"alpha": 0}, "greater than 0"),
        ({"alpha": 0.6}, "less than or equal to 0.5"),
    ],
)
def test_a_gate_that_contradicts_itself_is_refused(gate: dict[str, object], says: str):
    with pytest.raises(ValidationError, match=says):
        GateRules.model_validate(gate)
