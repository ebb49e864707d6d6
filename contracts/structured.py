"""CloudEvents in structured and batched mode, as the SDKs really send them. Pure.

Source: CloudEvents 1.0.2, "JSON Event Format" and "JSON Batch Format". The Python SDK names the data's content type above an
envelope, or none; others put the data into it as JSON text, or as Base64.
"""

import base64
import json
from typing import Any, cast

from contracts.json_text import Malformed, load_json

JSON = "application/json"
STRUCTURED = "application/cloudevents+json"
BATCH = "application/cloudevents-batch+json"
MAX_EVENTS = 10_000
"""Of a batch."""


def media_type(header: str) -> str:
    """A content type without its parameters."""
    return header.split(";")[0].strip().lower()


def is_json(media: str) -> bool:
    """Whether a media type is JSON: application/json, or another with the suffix +json (RFC 6839)."""
    return media == JSON or (media.startswith("application/") and media.endswith("+json") and media != BATCH)


def is_envelope(value: bytes) -> bool:
    """Whether JSON under another name is an event in structured mode. What cannot be read is none."""
    if b"specversion" not in value:
        return False
    try:
        body = json.loads(value)
    except (ValueError, RecursionError):
        return False
    return isinstance(body, dict) and "specversion" in body


def is_batch(media: str, value: bytes) -> bool:
    """Whether a message without attributes of its own is a batch of envelopes: an array, whatever it is called."""
    return media == BATCH or ((media == STRUCTURED or is_json(media)) and value[:64].lstrip()[:1] == b"[")


def envelopes(value: bytes) -> list[bytes]:
    """The envelopes of a batch, each as JSON.

    Raises:
        Malformed: `not_utf8`, `not_json`, `too_deep`, or `too_many_events`.
    """
    whole = load_json(value)
    if not isinstance(whole, list):
        raise Malformed("not_json", "a batch is a JSON array of events in structured mode")
    found = cast(list[Any], whole)
    if len(found) > MAX_EVENTS:
        raise Malformed("too_many_events", f"the batch holds {len(found)} events; at most {MAX_EVENTS} are taken")
    return [_written(each) for each in found]


def envelope_of(value: bytes) -> dict[str, Any]:
    """The envelope of a message in structured mode.

    Raises:
        Malformed: `not_utf8`, `not_json` or `too_deep`.
    """
    whole = load_json(value)
    if not isinstance(whole, dict):
        raise Malformed("not_json", "a structured event is a JSON object with the attributes and 'data'")
    return cast(dict[str, Any], whole)


def attributes_of(body: dict[str, Any]) -> dict[str, str]:
    """An envelope's attributes that are texts, under their names in binary mode.

    Raises:
        Malformed: `bad_header`: JSON may escape half of a surrogate pair, which can be neither stored nor sent on.
    """
    named = {f"ce_{k}": v for k, v in body.items() if k not in ("data", "data_base64") and isinstance(v, str)}
    try:
        "".join((*named, *named.values())).encode()
    except UnicodeEncodeError as error:
        raise Malformed("bad_header", "an attribute holds half of a surrogate pair; give UTF-8 text") from error
    return named


def data_of(body: dict[str, Any]) -> bytes:
    """The event's data as JSON: an object, JSON text, or Base64 of it.

    Raises:
        Malformed: `invalid_data` or `too_deep`.
    """
    data = body.get("data")
    if isinstance(data, dict):
        return _written(cast(dict[str, Any], data))
    try:
        if isinstance(data, str):
            load_json(data.encode())
            return data.encode()
        if data is None and isinstance(body.get("data_base64"), str):
            return base64.b64decode(body["data_base64"], validate=True)
    except ValueError as error:  # Malformed, no UTF-8, no Base64
        raise Malformed("invalid_data", f"'data' or 'data_base64' cannot be read: {error}"[:300]) from error
    raise Malformed("invalid_data", "'data' is missing; give an object, its JSON text, or data_base64")


def _written(value: Any) -> bytes:
    try:
        return json.dumps(value).encode()
    except RecursionError as error:  # written from deeper within the program than it was read
        raise Malformed("too_deep", "the value is nested too deep") from error
