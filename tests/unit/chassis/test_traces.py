"""The traceparent that is carried along, and where spans go."""

import pytest
from sqlalchemy import Engine
from sqlmodel import Session
from starlette.applications import Starlette
from starlette.requests import Request
from starlette.responses import JSONResponse
from starlette.routing import Route
from starlette.testclient import TestClient

from services.chassis.errors import SettingRefused
from services.chassis.http.tracing import Traceparent
from services.chassis.jobs.queue import JobQueue
from services.chassis.observability import traces
from services.chassis.storage.database import writing

PARENT = "00-0af7651916cd43dd8448eb211c80319c-b7ad6b7169203331-01"


def test_spans_go_nowhere_unless_the_environment_names_an_exporter() -> None:
    assert traces.exporter_of({}) is None
    assert traces.exporter_of({"OTEL_TRACES_EXPORTER": "none", "OTEL_EXPORTER_OTLP_ENDPOINT": "http://x:4318"}) is None
    assert traces.exporter_of({"OTEL_EXPORTER_OTLP_ENDPOINT": "http://x:4318"}) == "otlp"
    assert traces.exporter_of({"OTEL_EXPORTER_OTLP_TRACES_ENDPOINT": "http://x:4318/v1/traces"}) == "otlp"
    assert traces.exporter_of({"OTEL_TRACES_EXPORTER": "console"}) == "console"


@pytest.mark.parametrize(
    ("name", "value"), [("OTEL_TRACES_EXPORTER", "zipkin"), ("OTEL_EXPORTER_OTLP_PROTOCOL", "grpc")]
)
def test_what_is_not_offered_is_refused_by_name(name: str, value: str) -> None:
    with pytest.raises(SettingRefused, match=f"{name} is '{value}'"):
        traces.exporter_of({"OTEL_EXPORTER_OTLP_ENDPOINT": "http://x:4317", name: value})


def test_every_exporter_that_is_offered_can_be_had() -> None:
    import importlib

    for module, name in traces.EXPORTERS.values():
        assert callable(getattr(importlib.import_module(module), name))


def test_a_request_goes_on_in_its_trace_and_one_without_begins_one() -> None:
    def show(_: Request) -> JSONResponse:
        return JSONResponse(traces.current())

    client = TestClient(Traceparent(Starlette(routes=[Route("/x", show), Route("/health/live", show)])))
    answered: str = client.get("/x", headers={"traceparent": PARENT}).json()
    assert (answered[:36], answered == PARENT) == (PARENT[:36], False)
    first, second = client.get("/x").json(), client.get("/x", headers={"traceparent": "nonsense"}).json()
    assert len({PARENT[3:35], first[3:35], second[3:35]}) == 3
    assert client.get("/health/live", headers={"traceparent": PARENT}).json() is None
    assert traces.current() is None


def test_a_job_knows_the_trace_of_what_queued_it(engine: Engine) -> None:
    with writing(engine) as connection, Session(connection) as session:
        queue = JobQueue(session)
        with traces.span("x", "INTERNAL", PARENT, {}) as span:
            queue.enqueue("train", "traced", {})
        queue.enqueue("train", "other", {})
        session.flush()
        found = [job.traceparent for id in ("traced", "other") if (job := queue.get(id))]
    assert found == [span.traceparent, None]
    assert span.traceparent[:36] == PARENT[:36]


def fail_within(parent: str) -> None:
    with traces.span("inner", "INTERNAL", parent, {}) as inner:
        assert traces.current() == inner.traceparent != parent
        raise ValueError("x")


def test_blocks_within_blocks_are_left_in_order() -> None:
    with traces.span("outer", "INTERNAL", None, {}) as outer:
        with pytest.raises(ValueError, match="x"):
            fail_within(outer.traceparent)
        assert traces.current() == outer.traceparent
    assert traces.current() is None
