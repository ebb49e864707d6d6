"""The events page of the documentation, generated from the catalogue, schemas and golden messages."""

import json
from datetime import timedelta
from typing import Any

from contracts.schema import example_path, schema
from contracts.topics import FOR_EVER, TOPICS, Topic

_HEAD = """# Events

Generated from `contracts/` by `python -m contracts.export`; do not edit. The machine-readable form is
[`contracts/schemas/asyncapi.json`](../contracts/schemas/asyncapi.json) (AsyncAPI 3); each event's JSON Schema
lies beside it, and a golden message of each in [`contracts/examples/`](../contracts/examples/).

Every message is a [CloudEvent 1.0](https://github.com/cloudevents/spec) in Kafka's binary mode: the attributes are
headers, the value is the event's data as JSON. Structured mode
(`content-type: application/cloudevents+json`) is read too.

| header | meaning |
|---|---|
| `ce_specversion` | `1.0` |
| `ce_id` | with `ce_source` the identity of the event: the same pair again has no second effect |
| `ce_source` | who produced it, a URI such as `urn:example:shop` |
| `ce_type` | `io.noria.` and the topic's name |
| `ce_time` | RFC 3339 |
| `content-type` | `application/json` |
| `traceparent` | optional, [W3C Trace Context](https://www.w3.org/TR/trace-context/) |
| `ce_causationid` | on what Noria produces: the id of the event that caused it |

Unknown fields are ignored, so that fields may be added under the same version; what breaks gets a new topic `....v2`.
A message that cannot be read goes to `<topic>.<group>.dlq`, its bytes and headers as they came, with the headers
`noria-reason`, `noria-detail`, `noria-topic`, `noria-partition` and `noria-offset`; `noria dlq list` shows them.
A message with the header `noria-redrive` was sent again by `noria dlq redrive`; its identity is the original's.

| topic | produced by | consumed by | key | partitions | kept |
|---|---|---|---|---|---|
"""


def events_page() -> str:
    """The page as Markdown."""
    return _HEAD + "".join(map(_row, TOPICS)) + "".join(map(_section, TOPICS))


def _row(topic: Topic) -> str:
    link = f"[`{topic.name}`](#{topic.name.replace('.', '')})"
    consumers = ", ".join(topic.consumers)
    cells = (link, ", ".join(topic.producers), consumers, _key(topic), str(topic.partitions), _kept(topic))
    return f"| {' | '.join(cells)} |\n"


def _key(topic: Topic) -> str:
    example = json.loads(example_path(topic.event).read_text())
    parts = [
        name
        for name in ("project", "request_id", "record_id", "letter", "service", "number")
        if str(example["data"].get(name)) in _pieces(example)
    ]
    return f"`{'/'.join(parts)}`"


def _pieces(example: dict[str, Any]) -> list[str]:
    return str(example["key"]).split("/")


def _kept(topic: Topic) -> str:
    if topic.compacted:
        return "the newest of each key, for ever"
    return "for ever" if topic.retention == FOR_EVER else f"{topic.retention // timedelta(days=1)} days"


def _section(topic: Topic) -> str:
    body = schema(topic.event)
    required = set(body.get("required", ()))
    rows = "".join(_field(name, part, name in required) for name, part in body["properties"].items())
    data = json.loads(example_path(topic.event).read_text())["data"]
    return (
        f"\n## {topic.name}\n\n{(topic.event.__doc__ or '').strip()}\n\n"
        f"| field | type | needed | meaning |\n|---|---|---|---|\n{rows}\n"
        f"```json\n{json.dumps(data, indent=1, ensure_ascii=False)}\n```\n"
    )


def _field(name: str, part: dict[str, Any], required: bool) -> str:
    meaning = str(part.get("description", "")).replace("|", "\\|").split("\n")[0]
    return f"| `{name}` | {_type(part)} | {'yes' if required else ''} | {meaning} |\n"


def _type(part: dict[str, Any]) -> str:
    if "$ref" in part:
        return str(part["$ref"]).rsplit("/", 1)[1]
    if "anyOf" in part:
        return " or ".join(_type(branch) for branch in part["anyOf"])
    if "enum" in part:
        return " or ".join(f"`{value}`" for value in part["enum"])
    if "const" in part:
        return f"`{part['const']}`"
    if part.get("type") == "array":
        return f"list of {_type(part.get('items', {}))}"
    if part.get("type") == "object" and isinstance(part.get("additionalProperties"), dict):
        return f"map of {_type(part['additionalProperties'])}"
    return str(part.get("type", "any"))
