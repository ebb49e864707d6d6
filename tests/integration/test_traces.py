"""One trace from a request over HTTP through events and a job, as an OTLP receiver gets it."""

import gzip
import threading
import uuid
from collections.abc import Iterator
from contextlib import ExitStack
from http.server import BaseHTTPRequestHandler, ThreadingHTTPServer
from pathlib import Path

import httpx
import pytest
from confluent_kafka import Consumer, Producer
from opentelemetry.proto.collector.trace.v1.trace_service_pb2 import ExportTraceServiceRequest

from contracts.envelope import encode, new_meta
from contracts.events.registry import ProjectDefinedV1
from contracts.project import ProjectSpec
from tests.integration.service_process import service, until

TRACE = "0af7651916cd43dd8448eb211c80319c"
CLIENT = "b7ad6b7169203331"
Span = dict[str, str]


class Receiver:
    """What a collector listens to on port 4318: OTLP over HTTP."""

    def __init__(self) -> None:
        self.spans: list[Span] = []
        found = self.spans

        class Handler(BaseHTTPRequestHandler):
            def do_POST(self) -> None:
                body = self.rfile.read(int(self.headers["content-length"]))
                if self.headers.get("content-encoding") == "gzip":
                    body = gzip.decompress(body)
                if self.path == "/v1/traces":
                    found.extend(spans(ExportTraceServiceRequest.FromString(body)))
                self.send_response(200)
                self.end_headers()

            def log_message(self, format: str, *args: object) -> None:
                """Nothing."""

        self.server = ThreadingHTTPServer(("127.0.0.1", 0), Handler)
        self.url = f"http://127.0.0.1:{self.server.server_port}"
        threading.Thread(target=self.server.serve_forever, daemon=True).start()

    def find(self, service: str, name: str) -> Span | None:
        return next((s for s in self.spans if (s["service"], s["name"], s["trace"]) == (service, name, TRACE)), None)


def spans(request: ExportTraceServiceRequest) -> Iterator[Span]:
    for resource in request.resource_spans:
        about = {item.key: item.value.string_value for item in resource.resource.attributes}
        for scope in resource.scope_spans:
            for span in scope.spans:
                own = {item.key: item.value.string_value or str(item.value.int_value) for item in span.attributes}
                ids = {"trace": span.trace_id.hex(), "id": span.span_id.hex(), "parent": span.parent_span_id.hex()}
                yield {
                    **own,
                    **ids,
                    "service": about["service.name"],
                    "name": span.name,
                    "status": str(span.status.code),
                }


@pytest.fixture
def receiver() -> Iterator[Receiver]:
    receiver = Receiver()
    yield receiver
    receiver.server.shutdown()
    receiver.server.server_close()


def traceparent_of(kafka: str, topic: str, project: str) -> str:
    """Of the first event of the project on a topic."""
    options = {"bootstrap.servers": kafka, "group.id": str(uuid.uuid4()), "auto.offset.reset": "earliest"}
    consumer = Consumer(options)
    consumer.subscribe([topic])

    def found() -> str | None:
        message = consumer.poll(0.2)
        if message is None or message.error() is not None or project.encode() not in (message.value() or b""):
            return None
        return str(dict(message.headers() or [])["traceparent"], "ascii")  # pyright: ignore[reportArgumentType]

    try:
        return until(f"an event of {project} on {topic}", found)
    finally:
        consumer.close()


def define(kafka: str, project: str) -> None:
    event = ProjectDefinedV1(project=project, revision="1" * 64, spec=ProjectSpec(project=project, base="none"))
    key, value, headers = encode(event, new_meta(event, "urn:test", uuid.uuid4().hex))
    producer = Producer({"bootstrap.servers": kafka})
    producer.produce(type(event).TOPIC, key=key, value=value, headers=list(headers))
    assert producer.flush(10) == 0


def test_one_trace_from_an_upload_to_the_dataset(
    kafka: str, receiver: Receiver, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setenv("OTEL_EXPORTER_OTLP_ENDPOINT", receiver.url)
    monkeypatch.setenv("OTEL_BSP_SCHEDULE_DELAY", "200")
    monkeypatch.setenv("OTEL_EXPORTER_OTLP_COMPRESSION", "gzip")
    project = f"traced-{uuid.uuid4().hex[:8]}"
    sent = {"traceparent": f"00-{TRACE}-{CLIENT}-01"}
    with ExitStack() as stack:
        ingestion, prep = (stack.enter_context(service(name, tmp_path, kafka)) for name in ("ingestion", "prep"))
        define(kafka, project)
        pending = f"{prep}/v1/projects/{project}/pending"
        until("the project", lambda: httpx.get(pending).is_success)
        counts = f"{ingestion}/v1/projects/{project}/records/counts"
        until("the project", lambda: httpx.get(counts).is_success)

        record = {"prompt": "list files", "completion": "ls"}
        url = f"{ingestion}/v1/projects/{project}/records"
        assert httpx.post(url, json=[record], headers=sent).status_code == 202
        upload = until("its span", lambda: receiver.find("noria-ingestion", "POST /v1/projects/{project}/records"))
        assert (upload["parent"], upload["http.response.status_code"]) == (CLIENT, "202")

        until("the record", lambda: httpx.get(pending).json()["records"])
        taken = until("its span", lambda: receiver.find("noria-prep", "process ingestion.record.accepted.v1"))
        assert taken["messaging.consumer.group.name"] == "prep.main"
        assert traceparent_of(kafka, "ingestion.record.accepted.v1", project).split("-")[1] == TRACE

        assert httpx.post(f"{prep}/v1/projects/{project}/freeze", headers=sent).status_code == 202
        asked = until("its span", lambda: receiver.find("noria-prep", "POST /v1/projects/{project}/freeze"))
        job = until("its job's span", lambda: receiver.find("noria-prep", "job freeze"))
        assert (asked["parent"], job["parent"], job["noria.project"]) == (CLIENT, asked["id"], project)
        frozen = traceparent_of(kafka, "prep.dataset.frozen.v1", project)
        assert frozen == f"00-{TRACE}-{job['id']}-01"
