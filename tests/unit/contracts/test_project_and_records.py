"""Project files and records: what is taken, and what is refused with which words."""

from datetime import timedelta
from typing import Any

import pytest
from pydantic import TypeAdapter, ValidationError

from contracts.chat import conversation
from contracts.project import APPLYING, ProjectSpec, Prompt
from contracts.records import RecordInvalid, parse_record
from contracts.types import Metric, Metrics


def spec(**changes: Any) -> ProjectSpec:
    return ProjectSpec.model_validate({"project": "p", "base": "b", **changes})


def test_a_rule_of_a_project_that_is_applied_is_in_percent_and_one_that_stands_is_taken() -> None:
    raw = {"project": "p", "base": "b", "gate": {"require": ["exact_match > 0.25"]}}
    assert ProjectSpec.model_validate(raw).gate.require == ("exact_match > 0.25",)
    with pytest.raises(ValidationError, match=r"give 'exact_match > 25'"):
        ProjectSpec.model_validate(raw, context=APPLYING)
    for rule in ("exact_match > 25", "exact_match > champion", "exact_match > 0", "loss < 0.5", "chrf > 1"):
        ProjectSpec.model_validate(
            {**raw, "evaluate": {"suite": ["loss", "exact_match", "chrf"]}, "gate": {"require": [rule]}},
            context=APPLYING,
        )


def test_exact_match_of_an_older_event_is_read_in_percent() -> None:
    taken = TypeAdapter(Metrics)
    old = {"value": 0.25, "low": 0.125, "high": 0.5, "n": 8}
    found = taken.validate_python({"exact_match": old, "chrf": old})
    assert (found["exact_match"].value, found["exact_match"].low, found["exact_match"].high) == (25, 12.5, 50)
    assert (found["chrf"].value, found["chrf"].unit) == (0.25, None)
    assert taken.validate_json(taken.dump_json(found)) == found
    assert taken.validate_python({"exact_match": Metric.model_validate(old)})["exact_match"].unit == "percent"
    with pytest.raises(ValidationError):
        taken.validate_python({"exact_match": {"value": "x"}})


def test_durations() -> None:
    assert spec(prep={"freeze": {"quiet": "1.5m"}}).prep.freeze.quiet == timedelta(seconds=90)
    assert ProjectSpec.model_validate_json(spec(prep={"freeze": {"quiet": "20s"}}).model_dump_json()) == spec()


@pytest.mark.parametrize(
    ("changes", "where"),
    [
        ({"prep": {"freeze": {"quiet": "soon"}}}, ("prep", "freeze", "quiet")),
        ({"prep": {"held_out": 0.9, "validation": 0.5}}, ("prep",)),
        ({"train": {"learning_rat": 1}}, ("train", "learning_rat")),
        ({"train": {"epochs": 0}}, ("train", "epochs")),
        ({"gate": {"require": ["chrf is better"]}}, ("gate", "require", 0)),
        ({"gate": {"require": ["bleu > 3"]}}, ()),
        ({"project": "../x"}, ("project",)),
    ],
)
def test_impossible_projects_name_the_place(changes: dict[str, Any], where: tuple[str | int, ...]) -> None:
    with pytest.raises(ValidationError) as caught:
        spec(**changes)
    assert where in [error["loc"] for error in caught.value.errors()]


TURNS = [{"role": "user", "content": "q"}, {"role": "assistant", "content": "a"}]


@pytest.mark.parametrize(
    ("raw", "name"),
    [
        ({"messages": TURNS}, "messages"),
        ({"prompt": "q", "completion": "a"}, "prompt_completion"),
        ({"prompt": TURNS[:1], "completion": TURNS[1:]}, "prompt_completion"),
        ({"prompt": "q", "chosen": "a", "rejected": "b"}, "preference"),
        ({"prompt": "q", "completion": "a", "label": True}, "unpaired_preference"),
        ({"text": "t"}, "text"),
    ],
)
def test_formats(raw: dict[str, Any], name: str) -> None:
    found, record = parse_record(raw)
    assert found == name
    before, completion = conversation(Prompt(system="S"), record)
    assert completion == ("t" if name == "text" else "a")
    assert before == [{"role": "system", "content": "S"}] + ([] if name == "text" else TURNS[:1])


@pytest.mark.parametrize(
    ("raw", "code"),
    [
        ("text", "not_an_object"),
        ({}, "unknown_format"),
        ({"messages": TURNS, "text": "t"}, "unknown_format"),
        ({"messages": []}, "invalid_field"),
        ({"messages": [{"role": "robot", "content": "x"}]}, "invalid_field"),
        ({"messages": [{"role": "user", "content": None}]}, "invalid_field"),
        ({"text": 3}, "invalid_field"),
    ],
)
def test_bad_records(raw: Any, code: str) -> None:
    with pytest.raises(RecordInvalid) as caught:
        parse_record(raw)
    assert caught.value.code == code


@pytest.mark.parametrize(
    ("prompt", "said"),
    [
        ("x" * 100_001, "record.prompt: String should have at most 100000 characters"),
        ([{"role": "user", "content": "x" * 100_001}], "record.prompt.0.content: String should have at most 100000"),
        ([], "record.prompt is empty; give at least one"),
    ],
)
def test_a_fault_of_a_text_or_turns_is_told_of_what_was_sent(prompt: Any, said: str) -> None:
    with pytest.raises(RecordInvalid) as caught:
        parse_record({"prompt": prompt, "completion": "a"})
    assert str(caught.value).startswith(said)


def test_own_system_turn_wins() -> None:
    _, record = parse_record({"messages": [{"role": "system", "content": "mine"}, *TURNS]})
    assert conversation(Prompt(system="S"), record)[0][0]["content"] == "mine"


@pytest.mark.parametrize("kind", ["completion", "chosen"])
def test_the_last_answer_of_several_turns_is_the_completion_and_the_others_are_shown(kind: str) -> None:
    said = [{"role": "assistant", "content": "which?"}, {"role": "user", "content": "b"}, TURNS[1]]
    rest = {"rejected": "no"} if kind == "chosen" else {}
    record = parse_record({"prompt": TURNS[:1], kind: [*said, {"role": "user", "content": "thanks"}], **rest})[1]
    assert conversation(Prompt(), record) == ([TURNS[0], *said[:2]], "a")
    nothing = parse_record({"prompt": TURNS, kind: TURNS[:1], **rest})[1]
    assert conversation(Prompt(), nothing)[1] == "", "the prompt's own answers are no completion"
