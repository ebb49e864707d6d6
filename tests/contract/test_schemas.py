"""Every schema and golden message is pinned; a breaking change under the same version fails."""

import json
import subprocess
from pathlib import Path
from typing import Any

import jsonschema
import pytest

from compose.local import settings
from contracts import export, schema, topics
from contracts.compat import breaking_changes
from contracts.envelope import Event, decode, encode
from contracts.events.serving import InferenceCompletedV1
from contracts.topics import TOPICS, Topic

ROOT = Path(__file__).parents[2]
by_topic = pytest.mark.parametrize("topic", TOPICS, ids=lambda t: t.name)


def golden(event: type[Event]) -> dict[str, Any]:
    return json.loads(schema.example_path(event).read_text())


def committed(path: str) -> dict[str, Any] | None:
    """The file on the newest commit of main, or None where it is not there (or this is no git checkout)."""
    for branch in ("origin/main", "main", "HEAD"):
        found = subprocess.run(["git", "show", f"{branch}:{path}"], cwd=ROOT, capture_output=True, check=False)
        if found.returncode == 0:
            return json.loads(found.stdout)
    return None


def test_generated_files_are_current() -> None:
    for path, text in export.files().items():
        assert path.read_text() == text, f"{path.name} differs; run: python -m contracts.export"


def test_every_service_of_the_stack_may_have_refused_events() -> None:
    assert topics.SERVICES == settings.SERVICES


def test_no_orphan_schema_or_golden_message() -> None:
    names = {t.name for t in TOPICS}
    assert {p.stem for p in schema.EXAMPLES.glob("*.json")} >= names
    assert {p.stem for p in schema.SCHEMAS.glob("*.json")} == names | {"asyncapi", schema.PROJECT_FILE}


@by_topic
def test_every_event_has_producer_and_consumer(topic: Topic) -> None:
    assert topic.producers
    assert topic.consumers
    assert topic.event.TOPIC.split(".")[-1].startswith("v")
    assert "_" not in topic.name


def test_the_golden_message_of_a_teachers_answer_is_read() -> None:
    message = json.loads((schema.EXAMPLES / f"{InferenceCompletedV1.TOPIC}.teacher.json").read_text())
    _is_read(InferenceCompletedV1, message)
    assert message["data"]["teacher"]["cost"] > 0


@by_topic
def test_golden_message_is_read_by_todays_class_and_schema(topic: Topic) -> None:
    _is_read(topic.event, golden(topic.event))


def _is_read(event: type[Event], message: dict[str, Any]) -> None:
    headers = [(name, value.encode()) for name, value in message["headers"].items()]
    received = decode(event, headers, json.dumps(message["data"]).encode())
    assert received.data.model_dump(mode="json") == message["data"]
    assert received.data.key == message["key"]
    key, _, again = encode(received.data, received.meta)
    assert key.decode() == message["key"]
    assert dict(again) == dict(headers)
    jsonschema.validate(message["data"], schema.schema(event))


@by_topic
def test_schema_breaks_nothing_of_the_last_commit_on_main(topic: Topic) -> None:
    before = committed(f"contracts/schemas/{topic.name}.json")
    if before is not None:
        assert breaking_changes(before, schema.schema(topic.event)) == []


@by_topic
def test_golden_message_of_the_last_commit_is_read_by_todays_class(topic: Topic) -> None:
    before = committed(f"contracts/examples/{topic.name}.json")
    if before is not None:
        headers = [(name, value.encode()) for name, value in before["headers"].items()]
        received = decode(topic.event, headers, json.dumps(before["data"]).encode())
        assert received.data.key == before["key"]
