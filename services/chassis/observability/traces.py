"""Traces: the W3C traceparent that is carried from HTTP through events and jobs, and OpenTelemetry's spans along it.

The context is always passed on; spans are made only where the standard OTEL_ variables name an exporter.
"""

import importlib
import os
import random
import re
import sys
import time
import traceback
from collections.abc import Generator, Mapping, Sequence
from contextlib import AbstractContextManager, contextmanager
from contextvars import ContextVar, Token
from dataclasses import dataclass
from typing import Any, Literal

from contracts.envelope import Meta
from services.chassis.errors import SettingRefused
from services.chassis.observability import redaction

Kind = Literal["INTERNAL", "SERVER", "CLIENT", "PRODUCER", "CONSUMER"]
Attributes = Mapping[str, str | bool | int | float | Sequence[str]]
EXPORTERS = {
    "otlp": ("opentelemetry.exporter.otlp.proto.http.trace_exporter", "OTLPSpanExporter"),
    "console": ("opentelemetry.sdk.trace.export", "ConsoleSpanExporter"),
}
PROTOCOL = "http/protobuf"

_current: ContextVar[str | None] = ContextVar("traceparent", default=None)


class _Tracing:
    """Whether spans are recorded."""

    on = False


def configure_tracing(service: str) -> None:
    """Records spans where OTEL_TRACES_EXPORTER or an OTEL_EXPORTER_OTLP_..._ENDPOINT is set.

    The names and meanings are OpenTelemetry's (specification, "Environment Variable Specification"); the exporter, the
    batches and the sampler read theirs themselves.

    Raises:
        SettingRefused: an exporter or a protocol that is not offered.
    """
    chosen = exporter_of(os.environ)
    if chosen is None or os.environ.get("OTEL_SDK_DISABLED", "").lower() == "true":
        return
    from opentelemetry import trace
    from opentelemetry.sdk.resources import Resource
    from opentelemetry.sdk.trace import TracerProvider
    from opentelemetry.sdk.trace.export import BatchSpanProcessor

    module, name = EXPORTERS[chosen]
    arguments = {"out": sys.stderr} if chosen == "console" else {}
    exporter = getattr(importlib.import_module(module), name)(**arguments)
    named = {} if os.environ.get("OTEL_SERVICE_NAME") else {"service.name": f"noria-{service}"}
    provider = TracerProvider(resource=Resource.create({"service.namespace": "noria", **named}))
    provider.add_span_processor(BatchSpanProcessor(exporter))
    trace.set_tracer_provider(provider)
    _Tracing.on = True


def exporter_of(environment: Mapping[str, str]) -> str | None:
    """The exporter that the environment names, None for none.

    Raises:
        SettingRefused: one that is not offered.
    """
    endpoints = ("OTEL_EXPORTER_OTLP_ENDPOINT", "OTEL_EXPORTER_OTLP_TRACES_ENDPOINT")
    given = "otlp" if any(environment.get(name) for name in endpoints) else "none"
    chosen = environment.get("OTEL_TRACES_EXPORTER") or given
    if chosen == "none":
        return None
    if chosen not in EXPORTERS:
        raise SettingRefused(f"OTEL_TRACES_EXPORTER is {chosen!r}: only {', '.join(EXPORTERS)} and none are offered")
    for name in ("OTEL_EXPORTER_OTLP_TRACES_PROTOCOL", "OTEL_EXPORTER_OTLP_PROTOCOL"):
        protocol = environment.get(name) or PROTOCOL
        if chosen == "otlp" and protocol != PROTOCOL:
            raise SettingRefused(f"{name} is {protocol!r}: spans go by {PROTOCOL}, to a collector's port 4318")
    return chosen


def recording() -> bool:
    """Whether spans are recorded."""
    return _Tracing.on


def current() -> str | None:
    """The traceparent of what is being done here: what is emitted or queued now carries it."""
    if not _Tracing.on:
        return _current.get()
    from opentelemetry import trace

    context = trace.get_current_span().get_span_context()
    return _traceparent(context) if context.is_valid else None


def enter(traceparent: str) -> Token[str | None]:
    """Makes a traceparent the current one where no spans are recorded; `leave` ends it."""
    return _current.set(traceparent)


def leave(token: Token[str | None]) -> None:
    """What was current before is so again."""
    _current.reset(token)


@dataclass(frozen=True, slots=True)
class Span:
    """What is being done, and where it stands in its trace; `recorded` is OpenTelemetry's span, None where none is."""

    traceparent: str
    recorded: Any = None

    def fail(self, kind: str, text: str = "") -> None:
        """Says that it failed: `kind` is error.type."""
        if self.recorded is not None:
            from opentelemetry.trace import StatusCode

            self.recorded.set_attribute("error.type", kind)
            self.recorded.set_status(StatusCode.ERROR, redaction.redact(text) or None)


@contextmanager
def span(name: str, kind: Kind, parent: str | None, attributes: Attributes) -> Generator[Span]:
    """The span of a block in the trace of `parent` (a traceparent; None begins a trace); an exception is noted in it."""
    if not _Tracing.on:
        traceparent = next_traceparent(parent)
        token = _current.set(traceparent)
        try:
            yield Span(traceparent)
        finally:
            leave(token)
        return
    from opentelemetry import trace

    recorded = _begin(name, kind, parent, attributes)
    with trace.use_span(recorded, end_on_exit=True, record_exception=False, set_status_on_exception=False):
        try:
            yield Span(_traceparent(recorded.get_span_context()), recorded)
        except Exception as error:
            _note(recorded, error)
            raise


def note(
    name: str, kind: Kind, seconds: float, attributes: Attributes, error: str | None = None, text: str = ""
) -> None:
    """Records a span that has just ended and took so long, below what is current; `error`: its error.type."""
    if _Tracing.on:
        end = time.time_ns()
        recorded = _begin(name, kind, current(), attributes, end - int(seconds * 1e9))
        if error is not None:
            Span("", recorded).fail(error, text)
        recorded.end(end)


def handling(topic: str, group: str, meta: Meta) -> AbstractContextManager[Span]:
    """The span of a message's handler (OpenTelemetry messaging conventions)."""
    attributes = {
        "messaging.system": "kafka",
        "messaging.operation.name": "process",
        "messaging.operation.type": "process",
        "messaging.destination.name": topic,
        "messaging.consumer.group.name": group,
        "messaging.message.id": meta.id,
    }
    return span(f"process {topic}", "CONSUMER", meta.traceparent, attributes)


def _begin(name: str, kind: Kind, parent: str | None, attributes: Attributes, start: int | None = None) -> Any:
    from opentelemetry import trace
    from opentelemetry.trace.propagation.tracecontext import TraceContextTextMapPropagator

    context = TraceContextTextMapPropagator().extract({"traceparent": parent} if parent else {})
    return trace.get_tracer("noria").start_span(
        name, context, kind=trace.SpanKind[kind], attributes=dict(attributes), start_time=start
    )


def _traceparent(context: Any) -> str:
    return f"00-{context.trace_id:032x}-{context.span_id:016x}-{context.trace_flags:02x}"


def _note(recorded: Any, error: Exception) -> None:
    """Writes an error into its span as OpenTelemetry does by itself, but without secrets."""
    from opentelemetry.trace import StatusCode

    text = redaction.redact(str(error))
    stack = redaction.redact("".join(traceback.format_exception(error)))
    recorded.record_exception(error, {"exception.message": text, "exception.stacktrace": stack})
    recorded.set_status(StatusCode.ERROR, f"{type(error).__name__}: {text}")


_TRACEPARENT = re.compile("[0-9a-f]{2}-([0-9a-f]{32})-([0-9a-f]{16})-([0-9a-f]{2})")


def next_traceparent(parent: str | None) -> str:
    """A traceparent (W3C Trace Context) in the trace of `parent`, or of a new trace where there is none."""
    span = f"{random.getrandbits(64) or 1:016x}"
    if parent is not None and (found := _TRACEPARENT.fullmatch(parent)):  # it comes from outside and goes into JSON
        return f"00-{found[1]}-{span}-{found[3]}"
    return f"00-{random.getrandbits(128) or 1:032x}-{span}-01"


def trace_id(traceparent: str | None) -> str | None:
    """The trace id of a traceparent."""
    parts = (traceparent or "").split("-")
    return parts[1] if len(parts) == 4 else None
