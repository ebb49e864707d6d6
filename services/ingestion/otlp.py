"""OTLP/HTTP: requests of traces and logs as spans, and answers as the specification has them. Decides nothing about records.

Source: OpenTelemetry Protocol 1.7, "OTLP/HTTP" and "JSON Protobuf Encoding" (ids in hex, where protobuf's JSON has base64).
"""

import base64
import binascii
import zlib
from collections.abc import Iterable, Iterator, Mapping
from typing import Any, Literal, cast

from fastapi import Response
from google.protobuf.json_format import MessageToJson, ParseDict, ParseError
from google.protobuf.message import DecodeError, Message
from google.rpc.status_pb2 import Status
from opentelemetry.proto.collector.logs.v1.logs_service_pb2 import ExportLogsServiceRequest, ExportLogsServiceResponse
from opentelemetry.proto.collector.trace.v1.trace_service_pb2 import (
    ExportTraceServiceRequest,
    ExportTraceServiceResponse,
)

from contracts.envelope import Malformed, load_json
from services.ingestion.domain.traces import names
from services.ingestion.domain.traces.spans import Span

PROTOBUF, JSON = "application/x-protobuf", "application/json"
Signal = Literal["traces", "logs"]
REQUESTS: Mapping[Signal, type[Message]] = {"traces": ExportTraceServiceRequest, "logs": ExportLogsServiceRequest}
RESPONSES: Mapping[Signal, type[Message]] = {"traces": ExportTraceServiceResponse, "logs": ExportLogsServiceResponse}
REJECTED: Mapping[Signal, str] = {"traces": "rejected_spans", "logs": "rejected_log_records"}
_IDS = ("traceId", "spanId", "parentSpanId", "trace_id", "span_id", "parent_span_id")
_LEVELS = ("resourceSpans", "resource_spans", "scopeSpans", "scope_spans", "spans", "links",
           "resourceLogs", "resource_logs", "scopeLogs", "scope_logs", "logRecords", "log_records")  # fmt: skip
_ERROR = 2
"""STATUS_CODE_ERROR."""
CODES = {400: 3, 401: 16, 403: 7, 404: 5, 413: 3, 415: 3, 429: 8, 503: 14}
"""HTTP's status -> google.rpc.Code."""


def unpacked(body: bytes, encoding: str, most: int) -> bytes:
    """The body without its content encoding.

    Raises:
        Malformed: `unknown_encoding`, `not_gzip`, or `too_large` beyond `most` bytes.
    """
    if encoding in ("", "identity"):
        return body
    if encoding not in ("gzip", "deflate"):
        raise Malformed("unknown_encoding", f"content-encoding {encoding[:40]!r} is not taken; give gzip")
    try:
        packed = zlib.decompressobj(32 + zlib.MAX_WBITS)  # gzip or zlib, by its head
        found = packed.decompress(body, most + 1)
    except zlib.error as error:
        raise Malformed("not_gzip", f"the body is no {encoding}: {error}") from error
    if len(found) > most:
        raise Malformed("too_large", f"the body unpacks to more than {most} bytes; send smaller batches")
    if not packed.eof:
        raise Malformed("not_gzip", f"the body is cut off within its {encoding}")
    return found


def read(signal: Signal, body: bytes, media: str) -> list[Span]:
    """The spans of a request; of logs, the events of each call together.

    Raises:
        Malformed: `not_protobuf`, `not_json` or `not_otlp`.
    """
    request: Any = REQUESTS[signal]()
    if media == PROTOBUF:
        try:
            request.ParseFromString(body)
        except DecodeError as error:
            raise Malformed("not_protobuf", f"the body is no {type(request).__name__}: {error}"[:300]) from error
    else:
        _read_json(request, load_json(body))
    return list(_spans(request) if signal == "traces" else _log_events(request))


def _read_json(request: Message, raw: Any) -> None:
    if not isinstance(raw, dict):
        raise Malformed("not_otlp", f"the body is no {type(request).__name__}: give an object")
    try:
        _ids_in_base64(cast(dict[str, Any], raw))
        ParseDict(raw, request, ignore_unknown_fields=True)
    except (ParseError, ValueError, TypeError, AttributeError, RecursionError) as error:
        name = type(request).__name__
        raise Malformed("not_otlp", f"the body is no {name}: {error}"[:300].replace("\x00", "")) from error


def _ids_in_base64(node: dict[str, Any]) -> None:
    for name in _IDS:
        if isinstance(node.get(name), str):
            node[name] = base64.b64encode(binascii.unhexlify(node[name])).decode()
    for name in _LEVELS:
        for child in node[name] if isinstance(node.get(name), list) else ():
            if isinstance(child, dict):
                _ids_in_base64(cast(dict[str, Any], child))


def _spans(request: Any) -> Iterator[Span]:
    for resource in request.resource_spans:
        about = attributes(resource.resource.attributes)
        for scope in resource.scope_spans:
            for span in scope.spans:
                yield Span(
                    span.trace_id.hex(),
                    span.span_id.hex(),
                    attributes(span.attributes),
                    about,
                    tuple((event.name, attributes(event.attributes)) for event in span.events),
                    span.status.code == _ERROR,
                )


def _log_events(request: Any) -> Iterator[Span]:
    """Records with the ids of one span are its events; an event that tells a whole call is a span by itself."""
    for resource in request.resource_logs:
        about = attributes(resource.resource.attributes)
        grouped: dict[tuple[str, str], list[tuple[int, str, dict[str, Any]]]] = {}
        for scope in resource.scope_logs:
            for record in scope.log_records:
                at = record.time_unix_nano or record.observed_time_unix_nano
                grouped.setdefault((record.trace_id.hex(), record.span_id.hex()), []).append((at, *_event(record)))
        for (trace, span), found in grouped.items():
            details = [said for _, name, said in found if name == names.DETAILS]
            events = tuple((name, said) for _, name, said in found)
            times = tuple(at for at, _, _ in found)
            yield Span(trace, span, details[-1] if details else {}, about, events, items=len(found), times=times)


def _event(record: Any) -> tuple[str, dict[str, Any]]:
    """An event's name and what it says: its body's fields beside its attributes."""
    said = attributes(record.attributes)
    body = value(record.body)
    name = record.event_name or said.get(names.EVENT_NAME) or ""
    return str(name), {**said, **cast(dict[str, Any], body)} if isinstance(body, dict) else said


def attributes(pairs: Iterable[Any]) -> dict[str, Any]:
    """Attributes as a dictionary; of two with one name the last counts."""
    return {pair.key: value(pair.value) for pair in pairs}


def value(any_value: Any) -> Any:
    """An AnyValue as a JSON value; bytes as base64."""
    match any_value.WhichOneof("value"):
        case None:
            return None
        case "array_value":
            return [value(each) for each in any_value.array_value.values]
        case "kvlist_value":
            return attributes(any_value.kvlist_value.values)
        case "bytes_value":
            return base64.b64encode(any_value.bytes_value).decode()
        case kind:
            return getattr(any_value, kind)


def taken(signal: Signal, media: str, rejected: int, message: str) -> Response:
    """200: all was taken, or what was not and why."""
    response: Any = RESPONSES[signal]()
    if rejected or message:
        setattr(response.partial_success, REJECTED[signal], rejected)
        response.partial_success.error_message = message
    return _encoded(response, media, 200)


def refusal(media: str, status: int, message: str, retry_after: int | None = None) -> Response:
    """An error as OTLP has it: google.rpc.Status in the request's encoding. A client repeats 429 and 503 alone."""
    headers = {"retry-after": str(retry_after)} if retry_after else None
    said = Status(code=CODES[status], message=message[:1000])
    return _encoded(said, media, status, headers)


def _encoded(message: Message, media: str, status: int, headers: Mapping[str, str] | None = None) -> Response:
    if media == PROTOBUF:
        return Response(message.SerializeToString(), status, headers, PROTOBUF)
    return Response(MessageToJson(message, indent=None), status, headers, JSON)
