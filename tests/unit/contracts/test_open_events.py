"""An old consumer takes a new producer's event: a field that comes later may stand in every object of every event.

What people write, a project file or a record, is closed: there such a field is a misspelt key.
"""

import json
from collections.abc import Iterator
from functools import cache
from typing import Any

import pytest
from hypothesis import HealthCheck, given, settings
from hypothesis import strategies as st
from jsonschema import Draft202012Validator
from pydantic import BaseModel, ValidationError

from contracts.envelope import Event, decode, encode, new_meta
from contracts.events.registry import ProjectDefinedV1
from contracts.project import APPLYING, ProjectSpec
from contracts.records import FORMATS, RecordInvalid, parse_record
from contracts.schema import SCHEMAS, project_file_schema, schema
from contracts.topics import TOPICS, Topic
from services.cli.project_file import parse
from services.cli.yaml_file import FileInvalid
from tests.unit.contracts.values import classes, instances

LATER = {"comes_later": {"a": [1, None]}}


def objects(value: Any) -> Iterator[BaseModel]:
    """The models within a value, itself first."""
    if isinstance(value, BaseModel):
        yield value
        for name in type(value).model_fields:
            yield from objects(getattr(value, name))
    for part in value.values() if isinstance(value, dict) else value if isinstance(value, list | tuple) else ():
        yield from objects(part)


def grown(value: Any, written: Any) -> Any:
    """`written`, the JSON of `value`, with a field more in every object that is a model."""
    if isinstance(value, BaseModel):
        return {name: grown(getattr(value, name), part) for name, part in written.items()} | LATER
    if isinstance(value, dict):
        return {name: grown(part, written[name]) for name, part in value.items()}
    if isinstance(value, list | tuple):
        return [grown(part, other) for part, other in zip(value, written, strict=True)]
    return written


@cache
def validator(event: type[Event]) -> Draft202012Validator:
    """Of the event's schema."""
    return Draft202012Validator(schema(event))


PAIRS = [(topic, cls) for topic in TOPICS for cls in dict.fromkeys(classes(topic.event))]


@pytest.mark.parametrize(("topic", "cls"), PAIRS, ids=lambda each: getattr(each, "__name__", getattr(each, "name", "")))
@settings(max_examples=4, deadline=None, suppress_health_check=[HealthCheck.too_slow, HealthCheck.filter_too_much])
@given(st.data())
def test_every_object_of_every_event_may_have_a_field_more(
    topic: Topic, cls: type[BaseModel], data: st.DataObject
) -> None:
    event = data.draw(instances(topic.event, cls))
    assert cls in {type(part) for part in objects(event)}
    value = grown(event, json.loads(event.to_bytes()))
    _, _, headers = encode(event, new_meta(event, "urn:test", "1"))
    assert decode(topic.event, headers, json.dumps(value).encode()).data == event
    assert topic.event.model_validate_json(json.dumps(value)) == event
    assert topic.event.model_validate(value) == event
    validator(topic.event).validate(value)


@pytest.mark.parametrize(("keys", "found"), FORMATS.items(), ids=lambda each: "-".join(sorted(map(str, each))))
@given(st.data())
@settings(max_examples=20, deadline=None, suppress_health_check=[HealthCheck.too_slow, HealthCheck.filter_too_much])
def test_record_that_people_write_is_closed(keys: frozenset[str], found: Any, data: st.DataObject) -> None:
    record = data.draw(instances(found[1])).model_dump(mode="json")
    assert parse_record(record)[0] == found[0]
    with pytest.raises(RecordInvalid, match="give exactly one of"):
        parse_record(record | LATER)


def sections(model: type[BaseModel], path: tuple[str, ...] = ()) -> Iterator[tuple[str, ...]]:
    """The path of every section of a project file."""
    yield path
    for name, info in model.model_fields.items():
        if isinstance(info.annotation, type) and issubclass(info.annotation, BaseModel):
            yield from sections(info.annotation, (*path, name))


@pytest.mark.parametrize("path", [*sections(ProjectSpec)], ids=".".join)
def test_project_file_is_closed_and_its_event_open(path: tuple[str, ...]) -> None:
    """One specification, validated in two ways: closed where people write it, open where it comes with an event."""
    spec = ProjectSpec(project="p", base="b").model_dump(mode="json")
    place = spec
    for name in path:
        place = place.setdefault(name, {})
    place["misspelt"] = 1
    with pytest.raises(ValidationError) as caught:
        ProjectSpec.model_validate(spec)
    assert [(error["type"], error["loc"]) for error in caught.value.errors()] == [
        ("extra_forbidden", (*path, "misspelt"))
    ]
    assert not Draft202012Validator(project_file_schema()).is_valid(spec)
    event = {"project": "p", "revision": "0" * 64, "spec": spec}
    assert ProjectDefinedV1.model_validate(event).spec == ProjectSpec(project="p", base="b")


def test_a_step_that_comes_later_travels_with_events_and_nobody_applies_it() -> None:
    """Consumers of before pass it on as it came, with the revision that it has."""
    later = {"step": "perplexity", "most": {"tokens": [1, 2.5, None]}}
    spec = ProjectSpec(project="p", base="b").model_dump(mode="json")
    spec["prep"]["steps"] = [{"step": "duplicates"}, later]
    event = ProjectDefinedV1.model_validate({"project": "p", "revision": "0" * 64, "spec": spec})
    assert json.loads(event.to_bytes())["spec"] == spec
    assert ProjectSpec.model_validate_json(event.spec.model_dump_json()) == event.spec, "as stores keep it"
    validator(ProjectDefinedV1).validate(json.loads(event.to_bytes()))
    assert not Draft202012Validator(project_file_schema()).is_valid(spec)
    for wrong in ({}, {"step": 5}, "duplicates", {"step": "cap"}):
        spec["prep"]["steps"] = [wrong]
        with pytest.raises(ValidationError):
            ProjectDefinedV1.model_validate({"project": "p", "revision": "0" * 64, "spec": spec})
        assert not validator(ProjectDefinedV1).is_valid({"project": "p", "revision": "0" * 64, "spec": spec})


@pytest.mark.parametrize(("name", "meant"), [("near_duplicate", "did you mean near_duplicates?"), ("x", "there are ")])
def test_a_step_that_is_none_is_refused_where_a_project_is_applied(name: str, meant: str) -> None:
    steps = [{"step": "duplicates"}, {"step": name}]
    with pytest.raises(ValidationError) as caught:
        ProjectSpec.model_validate({"project": "p", "base": "b", "prep": {"steps": steps}}, context=APPLYING)
    [error] = caught.value.errors()
    assert error["loc"][:3] == ("prep", "steps", 1)
    assert f"no step is called {name!r}; {meant}" in error["msg"]
    text = f"project: p\nbase: b\nprep:\n  steps:\n    - step: duplicates\n    - step: {name}\n".encode()
    with pytest.raises(FileInvalid, match=f"line 6: no step is called '{name}'; {meant[:9]}"):
        parse(text)


def closed(body: Any) -> bool:
    if isinstance(body, dict):
        return body.get("additionalProperties") is False or any(map(closed, body.values()))
    return isinstance(body, list) and any(map(closed, body))


def test_no_published_schema_of_an_event_is_closed() -> None:
    files = [path for path in SCHEMAS.glob("*.json") if path.stem != "project-file"]
    assert len(files) == len(TOPICS) + 1
    assert [path.name for path in files if closed(json.loads(path.read_text()))] == []
