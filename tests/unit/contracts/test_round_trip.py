"""Every value of every field survives: event -> JSON -> event, project -> JSON and YAML -> project, within the schemas."""

import json
import math
from datetime import UTC, datetime, timedelta, timezone
from functools import cache
from typing import Any

import pytest
import yaml
from hypothesis import HealthCheck, given, settings
from hypothesis import strategies as st
from jsonschema import Draft202012Validator, FormatChecker
from pydantic import TypeAdapter, ValidationError

from contracts.canonical import canonical
from contracts.envelope import Malformed, decode, encode, new_meta
from contracts.events.trainer import RunProgressedV1
from contracts.events.upstream import RecordSubmittedV1
from contracts.preparation import Freeze, Prep
from contracts.project import ProjectSpec, Prompt
from contracts.schema import project_file_schema, schema
from contracts.sections import Duration, duration_text
from contracts.topics import TOPICS, Topic
from services.cli.project_file import PROJECT, parse
from services.cli.yaml_file import FileInvalid, read
from tests.unit.contracts.values import DURATIONS, instances

SLOW = settings(
    max_examples=25, deadline=None, suppress_health_check=[HealthCheck.too_slow, HealthCheck.filter_too_much]
)
by_topic = pytest.mark.parametrize("topic", TOPICS, ids=lambda t: t.name)


@cache
def validator(topic: Topic | None) -> Draft202012Validator:
    body = project_file_schema() if topic is None else schema(topic.event)
    return Draft202012Validator(body, format_checker=FormatChecker())


@by_topic
@SLOW
@given(st.data())
def test_event_survives_the_wire_and_fits_its_schema(topic: Topic, data: st.DataObject) -> None:
    event = data.draw(instances(topic.event))
    _, value, headers = encode(event, new_meta(event, "urn:test", "1"))
    assert decode(topic.event, headers, value).data == event
    assert topic.event.model_validate(event.model_dump()) == event
    validator(topic).validate(json.loads(value))


@SLOW
@given(instances(ProjectSpec))
def test_project_survives_json_and_yaml_and_fits_its_schema(spec: ProjectSpec) -> None:
    written = spec.model_dump(mode="json")
    again = ProjectSpec.model_validate_json(json.dumps(written))
    assert again == spec
    assert canonical(again.model_dump(mode="json")) == canonical(written), "its revision is the same"
    assert read(yaml.safe_dump(written).encode(), PROJECT, ProjectSpec) == spec, (
        "any prompt: what is none is told later"
    )
    validator(None).validate(written)


def test_project_of_defaults_alone_has_the_revision_of_what_is_written() -> None:
    """3 epochs by default were 3, and 3.0 after a round trip: two revisions of one project."""
    spec = ProjectSpec(project="p", base="b")
    again = ProjectSpec.model_validate_json(spec.model_dump_json())
    assert canonical(again.model_dump(mode="json")) == canonical(spec.model_dump(mode="json"))


DURATION: TypeAdapter[timedelta] = TypeAdapter(Duration)


@given(DURATIONS)
def test_duration_survives_its_text(value: timedelta) -> None:
    assert DURATION.validate_python(duration_text(value)) == value


@pytest.mark.parametrize(
    ("text", "value", "written"),
    [
        ("30d", timedelta(days=30), "2592000s"),
        ("2.592e+06s", timedelta(days=30), "2592000s"),
        ("250ms", timedelta(milliseconds=250), "0.25s"),
        ("1.5h", timedelta(minutes=90), "5400s"),
        ("0.000001s", timedelta(microseconds=1), "0.000001s"),
        ("999999999d", timedelta(days=999_999_999), "86399999913600s"),
        (20, timedelta(seconds=20), "20s"),
    ],
)
def test_duration_is_read_and_written(text: str | int, value: timedelta, written: str) -> None:
    """A million seconds were written as 1e+06s, and then refused; that form is still in the log, so it is read."""
    assert DURATION.validate_python(text) == value
    assert duration_text(value) == written


@pytest.mark.parametrize(
    "text", ["", "20", "-1s", "1e9999s", "99999999999999d", "infs", "nan", True, math.inf, math.nan, 10**400]
)
def test_duration_that_is_none_is_refused_and_nothing_worse(text: Any) -> None:
    with pytest.raises(ValidationError):
        Freeze(quiet=text)


@pytest.mark.parametrize("number", [".nan", ".inf", "-.inf", "1e999"])
def test_number_that_is_not_finite_is_refused_in_a_project_file(number: str) -> None:
    text = f"project: p\nbase: b\ntrain: {{weight_decay: {number}}}\n".encode()
    with pytest.raises(FileInvalid, match=r"line 3: .*(finite|number)"):
        parse(text)
    with pytest.raises(ValidationError, match="finite"):
        ProjectSpec.model_validate({"project": "p", "base": "b", "train": {"weight_decay": float("inf")}})


@pytest.mark.parametrize("number", ["NaN", "Infinity", "-Infinity", "1e999"])
def test_number_that_is_not_finite_is_refused_in_an_event(number: str) -> None:
    body = {"project": "p", "run_id": "r", "step": 1, "total_steps": 1, "epoch": 1, "tokens": 1}
    body |= {"learning_rate": 1, "tokens_per_second": 1, "eta_seconds": 0}
    event = RunProgressedV1.model_validate(body)
    _, _, headers = encode(event, new_meta(event, "urn:test", "1"))
    value = json.dumps(body | {"loss": 0}).replace('"loss": 0', f'"loss": {number}').encode()
    with pytest.raises(Malformed, match=r"no JSON number|finite"):
        decode(RunProgressedV1, headers, value)
    with pytest.raises(ValidationError, match="finite"):
        RunProgressedV1.model_validate(body | {"loss": float(number)})


def test_text_that_spells_such_a_number_is_text() -> None:
    event = RecordSubmittedV1(project="p", record_id="NaN", record={"text": "NaN and -Infinity"})
    _, value, headers = encode(event, new_meta(event, "urn:test", "1"))
    assert decode(RecordSubmittedV1, headers, value).data == event


@given(
    st.datetimes(datetime(1970, 1, 2), datetime(8999, 12, 30)),  # noqa: DTZ001 - the zone comes beside
    st.timedeltas(timedelta(hours=-23), timedelta(hours=23)),
)
def test_moment_survives_whatever_its_offset(moment: datetime, offset: timedelta) -> None:
    """An offset with seconds, as of local mean time, is none of RFC 3339."""
    event = RecordSubmittedV1(project="p", record_id="r", record={"text": "x"})
    meta = new_meta(event, "urn:test", "1", time=moment.replace(tzinfo=timezone(offset)))
    _, value, headers = encode(event, meta)
    assert (dict(headers)["ce_time"]).endswith(b"+00:00")
    received = decode(RecordSubmittedV1, headers, value).meta.time
    assert received == meta.time
    assert received.tzinfo is UTC


def test_moment_without_a_zone_is_refused() -> None:
    event = RecordSubmittedV1(project="p", record_id="r", record={"text": "x"})
    with pytest.raises(ValueError, match="has no time zone"):
        new_meta(event, "urn:test", "1", time=datetime(2026, 1, 31))  # noqa: DTZ001 - the fault


def test_defaults_are_written_within_the_schema() -> None:
    validator(None).validate(ProjectSpec(project="p", base="b", prompt=Prompt(), prep=Prep()).model_dump(mode="json"))
