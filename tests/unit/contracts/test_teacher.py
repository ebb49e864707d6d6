"""`serve.teacher` of a project file: what it takes, what it refuses, and that a project without one is what it was."""

from typing import Any

import pytest
from pydantic import ValidationError

from contracts.project import ProjectSpec, Serve
from contracts.teacher import Teacher

GIVEN: dict[str, Any] = {"url": "https://api.example.com/v1/", "model": "large-1"}


def test_a_project_without_a_teacher_is_written_as_before_there_were_any() -> None:
    assert "teacher" not in ProjectSpec(project="shop", base="b").model_dump_json()
    serve = Serve.model_validate({"teacher": GIVEN})
    assert Serve.model_validate_json(serve.model_dump_json()) == serve


def test_the_price_is_for_a_million_tokens() -> None:
    teacher = Teacher.model_validate({**GIVEN, "price": {"prompt": 2, "completion": 10}})
    assert teacher.url == "https://api.example.com/v1"
    assert teacher.cost(1_000_000, 500_000) == 7.0
    assert Teacher.model_validate(GIVEN).cost(5, 5) is None


@pytest.mark.parametrize(
    ("changed", "said"),
    [
        ({"url": "ftp://api.example.com"}, "give the endpoint's URL"),
        ({"url": "api.example.com/v1"}, "give the endpoint's URL"),
        ({"url": "https:///v1"}, "give the endpoint's URL"),
        ({"url": "https://api.example.com:0/v1"}, "give the endpoint's URL"),
        ({"url": "https://api.example.com:x/v1"}, "give the endpoint's URL"),
        ({"url": "https://api.example.com/v1 "}, "give the endpoint's URL"),
        ({"url": "https://me:secret@api.example.com/v1"}, "a secret is named in 'key'"),
        ({"url": "https://api.example.com/v1?key=x"}, "a secret is named in 'key'"),
        ({"key": "../../etc/passwd"}, "String should match"),
        ({"key": "sk-4711"}, "String should match"),
        ({"share": 1.5}, "less than or equal to 1"),
        ({"budget": 5}, "a budget needs a price"),
        ({"price": {"prompt": -1, "completion": 1}}, "greater than or equal to 0"),
        ({"price": {"prompt": 1, "completion": 1, "currency": "euro"}}, "String should match"),
        ({"timeout": {"first_token": "0s"}}, "greater than 0"),
        ({"leave_out": ["max_tokens"]}, "Input should be"),
        ({"modell": "x"}, "Extra inputs"),
    ],
)
def test_what_cannot_be_is_refused(changed: dict[str, Any], said: str) -> None:
    with pytest.raises(ValidationError, match=said):
        Teacher.model_validate(GIVEN | changed)
