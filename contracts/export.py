"""Writes what outsiders read: JSON Schemas, the AsyncAPI 3 document, the events page.

Run `python -m contracts.export` after a change of an event class; a test fails while the files differ.
Source: AsyncAPI 3.0.0 (https://www.asyncapi.com/docs/reference/specification/v3.0.0), Kafka bindings 0.5.0.
"""

import json
from pathlib import Path
from typing import Any

from contracts.envelope import JSON, STRUCTURED
from contracts.page import events_page
from contracts.schema import PROJECT_FILE, ROOT, SCHEMAS, example_path, project_file_schema, schema
from contracts.topics import FOR_EVER, TOPICS, Topic, dead_letter_topic

ASYNCAPI = SCHEMAS / "asyncapi.json"
EVENTS_PAGE = ROOT.parent / "docs" / "events.md"


def asyncapi(service: str | None = None, server: str = "127.0.0.1:9092") -> dict[str, Any]:
    """The AsyncAPI 3 document of one service, or of the whole system where `service` is None."""
    topics = [t for t in TOPICS if service is None or _touches(t, service)]
    return {
        "asyncapi": "3.0.0",
        "info": {
            "title": "Noria" if service is None else f"Noria {service}",
            "version": "1.0.0",
            "description": "CloudEvents 1.0 on Kafka. What a consumer group cannot read goes to <topic>.<group>.dlq.",
            "license": {"name": "Apache-2.0"},
        },
        "defaultContentType": JSON,
        "servers": {"kafka": {"host": server, "protocol": "kafka"}},
        "channels": {t.name: _channel(t) for t in topics},
        "operations": {name: op for t in topics for name, op in _operations(t, service).items()},
        "components": {
            "messages": {t.event.__name__: _message(t) for t in topics},
            "schemas": {"CloudEventHeaders": _headers()},
        },
    }


def _touches(topic: Topic, service: str) -> bool:
    return service in topic.producers or any(_owner(group) == service for group in topic.consumers)


def _owner(group: str) -> str:
    return group.split(".")[0]


def _channel(topic: Topic) -> dict[str, Any]:
    retention = -1 if topic.retention == FOR_EVER else int(topic.retention.total_seconds() * 1000)
    policy = ["compact"] if topic.compacted else ["delete"]
    configuration = {"cleanup.policy": policy, "retention.ms": retention}
    binding = {"topic": topic.name, "partitions": topic.partitions, "topicConfiguration": configuration}
    return {
        "address": topic.name,
        "description": (topic.event.__doc__ or "").strip(),
        "messages": {topic.event.__name__: {"$ref": f"#/components/messages/{topic.event.__name__}"}},
        "bindings": {"kafka": {**binding, "bindingVersion": "0.5.0"}},
    }


def _operations(topic: Topic, service: str | None) -> dict[str, Any]:
    target = {"channel": {"$ref": f"#/channels/{topic.name}"}}
    sends = {
        f"{who}.send.{topic.name}": {"action": "send", **target, "summary": f"{who} produces"}
        for who in topic.producers
        if service in (None, who)
    }
    receives = {
        f"{group}.receive.{topic.name}": {"action": "receive", **target, "summary": _receives(topic, group)}
        for group in topic.consumers
        if service is None or _owner(group) == service
    }
    return sends | receives


def _receives(topic: Topic, group: str) -> str:
    if group == "downstream":
        return "for whoever subscribes"
    return f"{group} consumes; what it cannot read goes to {dead_letter_topic(topic.name, group)}"


def _message(topic: Topic) -> dict[str, Any]:
    example = json.loads(example_path(topic.event).read_text())
    return {
        "name": topic.event.__name__,
        "title": topic.name,
        "contentType": JSON,
        "summary": (topic.event.__doc__ or "").strip().splitlines()[0],
        "headers": {"$ref": "#/components/schemas/CloudEventHeaders"},
        "payload": _inline(schema(topic.event), topic.event.__name__),
        "bindings": {"kafka": {"key": {"type": "string"}, "bindingVersion": "0.5.0"}},
        "examples": [{"name": "golden", "headers": example["headers"], "payload": example["data"]}],
    }


def _inline(body: dict[str, Any], name: str) -> dict[str, Any]:
    """`body` with its local references pointing to where it will stand in the document."""
    text = json.dumps({k: v for k, v in body.items() if k not in ("$id", "$schema")})
    return json.loads(text.replace('"#/$defs/', f'"#/components/messages/{name}/payload/$defs/'))


def _headers() -> dict[str, Any]:
    words = {
        "ce_specversion": "always 1.0",
        "ce_id": "identity of the event together with ce_source",
        "ce_source": "who produced it",
        "ce_type": "io.noria. and the topic",
        "ce_time": "RFC 3339",
        "content-type": f"{JSON}, or {STRUCTURED} for structured mode",
    }
    properties = {name: {"type": "string", "description": text} for name, text in words.items()}
    return {"type": "object", "required": ["ce_specversion", "ce_id", "ce_source", "ce_type"], "properties": properties}


def files() -> dict[Path, str]:
    """Every generated file with its content."""
    schemas = {SCHEMAS / f"{t.name}.json": _text(schema(t.event)) for t in TOPICS}
    project_file = {SCHEMAS / f"{PROJECT_FILE}.json": _text(project_file_schema())}
    return {**schemas, **project_file, ASYNCAPI: _text(asyncapi()), EVENTS_PAGE: events_page()}


def _text(document: dict[str, Any]) -> str:
    return json.dumps(document, indent=1, sort_keys=True, ensure_ascii=False) + "\n"


def main() -> None:
    """Writes the files that `files` returns."""
    SCHEMAS.mkdir(exist_ok=True)
    for path, text in files().items():
        path.write_text(text)
        print(path.relative_to(ROOT.parent))


if __name__ == "__main__":
    main()
