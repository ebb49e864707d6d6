"""Trace context and the names of spans and attributes (OpenTelemetry messaging conventions).

Trace context is W3C traceparent, carried in the Kafka header of that name.
"""

import importlib
import os
import random
import re
import sys
import traceback
from collections.abc import Generator
from contextlib import contextmanager
from typing import Any

from contracts.envelope import Meta
from services.chassis.observability import redaction


class _Tracing:
    """Whether spans are recorded: only where the standard OTEL_ variables name an exporter."""

    on = False


def configure_tracing(service: str) -> None:
    """Records spans where OTEL_TRACES_EXPORTER or OTEL_EXPORTER_OTLP_ENDPOINT is set; else context is only passed on."""
    exporter = os.environ.get("OTEL_TRACES_EXPORTER", "otlp" if "OTEL_EXPORTER_OTLP_ENDPOINT" in os.environ else "none")
    if exporter == "none":
        return
    from opentelemetry import trace
    from opentelemetry.sdk.resources import Resource
    from opentelemetry.sdk.trace import TracerProvider
    from opentelemetry.sdk.trace.export import BatchSpanProcessor, ConsoleSpanExporter

    provider = TracerProvider(resource=Resource.create({"service.name": f"noria-{service}"}))
    if exporter == "console":
        provider.add_span_processor(BatchSpanProcessor(ConsoleSpanExporter(out=sys.stderr)))
    else:
        name = "opentelemetry.exporter.otlp.proto.http.trace_exporter"
        provider.add_span_processor(BatchSpanProcessor(importlib.import_module(name).OTLPSpanExporter()))
    trace.set_tracer_provider(provider)
    _Tracing.on = True


def recording() -> bool:
    """Whether spans are recorded."""
    return _Tracing.on


@contextmanager
def handling(topic: str, group: str, meta: Meta) -> Generator[str]:
    """The span of a message's handler (OpenTelemetry messaging conventions); gives the traceparent of what it emits."""
    from opentelemetry import trace
    from opentelemetry.trace.propagation.tracecontext import TraceContextTextMapPropagator

    propagator = TraceContextTextMapPropagator()
    parent = propagator.extract({"traceparent": meta.traceparent} if meta.traceparent else {})
    attributes = {
        "messaging.system": "kafka",
        "messaging.operation.type": "process",
        "messaging.destination.name": topic,
        "messaging.consumer.group.name": group,
        "messaging.message.id": meta.id,
    }
    with trace.get_tracer("noria").start_as_current_span(
        f"process {topic}",
        parent,
        kind=trace.SpanKind.CONSUMER,
        attributes=attributes,
        record_exception=False,
        set_status_on_exception=False,
    ) as span:
        carrier: dict[str, str] = {}
        propagator.inject(carrier)
        try:
            yield carrier.get("traceparent") or next_traceparent(meta.traceparent)
        except Exception as error:
            _note(span, error)
            raise


def _note(span: Any, error: Exception) -> None:
    """Writes an error into its span as OpenTelemetry does by itself, but without secrets."""
    from opentelemetry.trace import StatusCode

    text = redaction.redact(str(error))
    stack = redaction.redact("".join(traceback.format_exception(error)))
    span.record_exception(error, {"exception.message": text, "exception.stacktrace": stack})
    span.set_status(StatusCode.ERROR, f"{type(error).__name__}: {text}")


_TRACEPARENT = re.compile("[0-9a-f]{2}-([0-9a-f]{32})-[0-9a-f]{16}-([0-9a-f]{2})")


def next_traceparent(parent: str | None) -> str:
    """A traceparent (W3C Trace Context) in the trace of `parent`, or of a new trace where there is none."""
    span = f"{random.getrandbits(64) or 1:016x}"
    if parent is not None and (found := _TRACEPARENT.fullmatch(parent)):  # it comes from outside and goes into JSON
        return f"00-{found[1]}-{span}-{found[2]}"
    return f"00-{random.getrandbits(128) or 1:032x}-{span}-01"


def trace_id(traceparent: str | None) -> str | None:
    """The trace id of a traceparent."""
    parts = (traceparent or "").split("-")
    return parts[1] if len(parts) == 4 else None
