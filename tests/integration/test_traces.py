"""One trace from a request over HTTP through events and a job, as an OTLP receiver gets it."""

import uuid
from collections.abc import Iterator
from contextlib import ExitStack
from pathlib import Path

import httpx
import pytest
from confluent_kafka import Consumer, Producer

from contracts.envelope import encode, new_meta
from contracts.events.registry import ProjectDefinedV1
from contracts.project import ProjectSpec
from tests.integration.otlp_receiver import Receiver
from tests.integration.service_process import service, until

TRACE = "0af7651916cd43dd8448eb211c80319c"
CLIENT = "b7ad6b7169203331"


@pytest.fixture
def receiver() -> Iterator[Receiver]:
    receiver = Receiver()
    yield receiver
    receiver.stop()


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
        upload = until(
            "its span", lambda: receiver.find(TRACE, "noria-ingestion", "POST /v1/projects/{project}/records")
        )
        assert (upload["parent"], upload["http.response.status_code"]) == (CLIENT, "202")

        until("the record", lambda: httpx.get(pending).json()["records"])
        taken = until("its span", lambda: receiver.find(TRACE, "noria-prep", "process ingestion.record.accepted.v1"))
        assert taken["messaging.consumer.group.name"] == "prep.main"
        assert traceparent_of(kafka, "ingestion.record.accepted.v1", project).split("-")[1] == TRACE

        assert httpx.post(f"{prep}/v1/projects/{project}/freeze", headers=sent).status_code == 202
        asked = until("its span", lambda: receiver.find(TRACE, "noria-prep", "POST /v1/projects/{project}/freeze"))
        job = until("its job's span", lambda: receiver.find(TRACE, "noria-prep", "job freeze"))
        assert (asked["parent"], job["parent"], job["noria.project"]) == (CLIENT, asked["id"], project)
        frozen = traceparent_of(kafka, "prep.dataset.frozen.v1", project)
        assert frozen == f"00-{TRACE}-{job['id']}-01"
