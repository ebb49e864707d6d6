"""Prints one event as the official SDK for Python sends it, by every binding and mode: JSON lines {name, headers, body}.

The module `v1` is the SDK as it was before version 2, which most of what is installed still sends.
"""

import base64
import json

from cloudevents.core.bindings import http, kafka
from cloudevents.core.formats.json import JSONFormat
from cloudevents.core.v1.event import CloudEvent
from cloudevents.v1.conversion import to_binary, to_structured
from cloudevents.v1.http import CloudEvent as OldEvent
from cloudevents.v1.kafka import to_binary as to_binary_kafka
from cloudevents.v1.kafka import to_structured as to_structured_kafka

ATTRIBUTES = {"id": "1 é%", "source": "urn:test", "type": "io.noria.upstream.record.submitted.v1", "specversion": "1.0"}
TURNS = [{"role": "user", "content": "Größe?"}, {"role": "assistant", "content": "XL"}]
DATA = {"project": "p", "record_id": "r", "record": {"messages": TURNS}}
TYPED = {**ATTRIBUTES, "datacontenttype": "application/json"}


def show(name: str, headers: dict[str, str | bytes], body: str | bytes) -> None:
    plain = {key: value.decode() if isinstance(value, bytes) else value for key, value in headers.items()}
    sent = body.encode() if isinstance(body, str) else bytes(body)
    print(json.dumps({"name": name, "headers": plain, "body": base64.b64encode(sent).decode()}))


def old_kafka(name: str, event: OldEvent) -> None:
    for mode, convert in (("structured", to_structured_kafka), ("binary", to_binary_kafka)):
        message = convert(event)
        show(f"kafka/v1 {name} {mode}", message.headers, message.value)


old_kafka("typed", OldEvent(dict(TYPED), DATA))
old_kafka("vendor's", OldEvent({**ATTRIBUTES, "datacontenttype": "application/vnd.acme+json"}, DATA))
message = to_structured_kafka(OldEvent(dict(ATTRIBUTES), DATA))
show("kafka/v1 untyped structured", message.headers, message.value)
message = to_structured_kafka(OldEvent(dict(ATTRIBUTES), json.dumps(DATA)))
show("kafka/v1 text structured", message.headers, message.value)
message = to_structured_kafka(OldEvent(dict(ATTRIBUTES), json.dumps(DATA).encode()))
show("kafka/v1 bytes structured", message.headers, message.value)
for mode, convert in (("structured", kafka.to_structured), ("binary", kafka.to_binary)):
    message = convert(CloudEvent(attributes=dict(TYPED), data=DATA), JSONFormat())
    show(f"kafka/v2 {mode}", message.headers, message.value)
for mode, old in (("structured", to_structured), ("binary", to_binary)):
    show(f"http/v1 {mode}", *old(OldEvent(dict(TYPED), DATA)))
for mode, new in (("structured", http.to_structured), ("binary", http.to_binary)):
    sent = new(CloudEvent(attributes=dict(TYPED), data=DATA), JSONFormat())
    show(f"http/v2 {mode}", sent.headers, sent.body)
