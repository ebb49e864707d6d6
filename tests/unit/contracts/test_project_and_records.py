"""Project files and records: what is taken, and what is refused with which words."""

from datetime import timedelta
from typing import Any

import pytest
from pydantic import ValidationError

from contracts.chat import conversation
from contracts.project import ProjectSpec, Prompt
from contracts.records import RecordInvalid, parse_record


def spec(**changes: Any) -> ProjectSpec:
    return ProjectSpec.model_validate({"project": "p", "base": "b", **changes})


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


def test_own_system_turn_wins() -> None:
    _, record = parse_record({"messages": [{"role": "system", "content": "mine"}, *TURNS]})
    assert conversation(Prompt(system="S"), record)[0][0]["content"] == "mine"
