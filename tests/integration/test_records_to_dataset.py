"""Ingestion and prep on a real broker: records and a correction in, datasets out, and what goes wrong on the way."""

import json
import os
import sqlite3
import subprocess
import sys
import time
import uuid
from collections.abc import Iterator
from contextlib import ExitStack
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import httpx
import pyarrow.parquet as pq
import pytest
from confluent_kafka import Consumer, Producer, TopicPartition

from contracts.envelope import Event, encode, new_meta
from contracts.events.feedback import SignalRecordedV1
from contracts.events.registry import ProjectDefinedV1
from contracts.events.upstream import RecordSubmittedV1
from contracts.preparation import Freeze, Prep
from contracts.project import Ingest, ProjectSpec
from contracts.records import Conversation, Message
from contracts.topics import dead_letter_topic
from contracts.types import ModelRef
from tests.broker import running
from tests.integration import client_environments
from tests.integration.service_process import service, until


@dataclass
class Stage:
    """Both services, and a project of its own for each test."""

    kafka: str
    ingestion: str
    prep: str
    home: Path

    def send(self, *events: Event) -> None:
        producer = Producer({"bootstrap.servers": self.kafka})
        for event in events:
            key, value, headers = encode(event, new_meta(event, "urn:test", str(uuid.uuid4())))
            producer.produce(type(event).TOPIC, key=key, value=value, headers=list(headers))
        assert producer.flush(10) == 0

    def define(self, project: str, ingest: Ingest | None = None, **prep: Any) -> None:
        spec = ProjectSpec(project=project, base="none", ingest=ingest or Ingest(), prep=Prep.model_validate(prep))
        self.send(ProjectDefinedV1(project=project, revision=uuid.uuid4().hex * 2, spec=spec))
        for url in (self.ingestion, self.prep):
            path = "records/counts" if url == self.ingestion else "pending"
            until("the project", lambda at=f"{url}/v1/projects/{project}/{path}": httpx.get(at).is_success)

    def pending(self, project: str) -> dict[str, Any]:
        return httpx.get(f"{self.prep}/v1/projects/{project}/pending").json()

    def datasets(self, project: str) -> list[dict[str, Any]]:
        return httpx.get(f"{self.prep}/v1/datasets", params={"project": project}).json()["items"]

    def received(self, topic: str, project: str, count: int) -> list[dict[str, Any]]:
        """The first events of the project on a topic."""
        options = {"bootstrap.servers": self.kafka, "group.id": str(uuid.uuid4()), "auto.offset.reset": "earliest"}
        consumer = Consumer(options)
        consumer.subscribe([topic])
        found: list[dict[str, Any]] = []
        try:
            deadline = time.monotonic() + 30
            while len(found) < count:
                assert time.monotonic() < deadline, found
                message = consumer.poll(1.0)
                if message is not None and message.error() is None:
                    value = json.loads(message.value() or b"{}")
                    found += [value] if value["project"] == project else []
        finally:
            consumer.close()
        return found

    def letters(self, project: str) -> list[bytes]:
        """The values of ingestion's dead letters that name a project."""
        topic = dead_letter_topic(RecordSubmittedV1.TOPIC, "ingestion.main")
        options = {"bootstrap.servers": self.kafka, "group.id": str(uuid.uuid4()), "auto.offset.reset": "earliest"}
        consumer, found = Consumer(options), list[bytes]()
        consumer.subscribe([topic])
        deadline = time.monotonic() + 30
        while not found and time.monotonic() < deadline:
            message = consumer.poll(0.5)
            if message is not None and project.encode() in (message.value() or b""):
                found.append(message.value() or b"")
        consumer.close()
        return found


@pytest.fixture(scope="module")
def kafka() -> Iterator[str]:
    """A broker of these tests' own: what others sent under the services' groups is not in this database."""
    with running() as broker:
        yield broker.bootstrap


@pytest.fixture(scope="module")
def stage(kafka: str, tmp_path_factory: pytest.TempPathFactory) -> Iterator[Stage]:
    home = tmp_path_factory.mktemp("records")
    with ExitStack() as stack:
        ingestion, prep = (stack.enter_context(service(name, home, kafka)) for name in ("ingestion", "prep"))
        yield Stage(kafka, ingestion, prep, home)


@pytest.fixture
def project() -> str:
    return f"p-{uuid.uuid4().hex[:8]}"


def lines(count: int) -> str:
    items = [
        {"record_id": f"r{i}", "record": {"prompt": f"word{i} thing{i}", "completion": f"do {i}"}} for i in range(count)
    ]
    return "\n".join(map(json.dumps, items))


def upload(stage: Stage, project: str, content: str) -> dict[str, Any]:
    url = f"{stage.ingestion}/v1/projects/{project}/records"
    return httpx.post(url, content=content, headers={"content-type": "application/x-ndjson"}).json()


def test_records_become_a_dataset_and_the_same_records_no_second_one(stage: Stage, project: str) -> None:
    stage.define(project, held_out=0.2, validation=0.1, freeze=Freeze.model_validate({"records": 50, "quiet": "1s"}))
    assert len(upload(stage, project, lines(60))["accepted"]) == 60
    [dataset] = until("a dataset", lambda: stage.datasets(project))
    assert sum(dataset["counts"].values()) + sum(dataset["drops"].values()) == 60
    [event] = stage.received("prep.dataset.frozen.v1", project, 1)
    assert event["dataset"]["version"] == dataset["version"]
    rows_of = {**dataset["counts"], "drops": sum(dataset["drops"].values())}
    assert set(event["dataset"]["files"]) == set(rows_of)
    for name, ref in event["dataset"]["files"].items():
        assert pq.read_table(ref["uri"].removeprefix("file://")).num_rows == rows_of[name]
    first = httpx.get(f"{stage.prep}/v1/datasets/{project}/1/rows", params={"where": "record_id = r7"}).json()["items"]
    assert [row["record"]["completion"] for row in first] in ([], ["do 7"])
    report = httpx.get(f"{stage.prep}/v1/datasets/{project}/1/report")
    assert dataset["version"] in report.text

    upload(stage, project, lines(60))
    counts = f"{stage.ingestion}/v1/projects/{project}/records/counts"
    until("unchanged records", lambda: httpx.get(counts).json()["unchanged"] == 60)
    assert stage.pending(project)["changed"] == 0
    again = httpx.post(f"{stage.prep}/v1/projects/{project}/freeze")
    assert (again.status_code, again.json()["dataset"]["number"]) == (200, 1)


def noria(stage: Stage, *arguments: str) -> Any:
    """What the console answers as JSON."""
    environment = os.environ | {"NORIA_HOME": str(stage.home), "NORIA_PREP_PORT": stage.prep.rsplit(":", 1)[1]}
    command = [sys.executable, "-m", "services.cli.app", *arguments, "--json"]
    return json.loads(subprocess.run(command, env=environment, capture_output=True, check=True, timeout=60).stdout)


def test_a_dataset_is_shown_compared_and_exported(stage: Stage, project: str, tmp_path: Path) -> None:
    stage.define(project, held_out=0.2, validation=0, freeze=Freeze.model_validate({"records": 20, "quiet": "1s"}))
    upload(stage, project, lines(40))
    until("a dataset", lambda: stage.datasets(project))
    upload(stage, project, "\n".join([*lines(62).split("\n")[39:], lines(1).replace("do 0", "do nothing")]))
    until("another dataset", lambda: len(stage.datasets(project)) == 2)
    changed = noria(stage, "datasets", "diff", f"{project}@1", f"{project}@2")
    assert {kind: changed[kind]["n"] for kind in ("added", "removed", "changed")} == {
        "added": 22,
        "removed": 0,
        "changed": 1,
    }
    shown = noria(stage, "datasets", "show", f"{project}@2", "--where", "record ~ nothing")
    assert [row["record_id"] for row in shown["items"]] == ["r0"]

    assert noria(stage, "datasets", "export", f"{project}@2", str(tmp_path / "out"))["rows"] == 62
    script = Path(__file__).parent / "clients" / "export_client.py"
    python = client_environments.python("data-files")
    offline = os.environ | {"HF_HUB_OFFLINE": "1", "HF_HOME": str(tmp_path / "home")}
    read = subprocess.run([python, script, tmp_path / "out"], env=offline, capture_output=True, text=True, check=False)
    assert read.returncode == 0, read.stderr[-3000:]
    found = json.loads(read.stdout)
    assert sum(found["rows"].values()) == len(found["records"]) == 62
    assert set(found["rows"]) == {"train", "test"}  # the library takes no split without rows
    assert {"prompt": "word0 thing0", "completion": "do nothing"} in found["records"]
    assert (found["errors"], found["warnings"]) == ([], [])
    assert len(found["described"]) == found["rows"]["train"]


def test_a_correction_waits_for_the_next_dataset(stage: Stage, project: str) -> None:
    stage.define(project)
    turns = (Message(role="user", content="q"), Message(role="assistant", content="better"))
    stage.send(
        SignalRecordedV1(
            project=project,
            signal_id="s1",
            request_id="chatcmpl-1",
            model=ModelRef(name=project, version=1),
            kind="correction",
            record_id="feedback-chatcmpl-1",
            record=Conversation(messages=turns),
        )
    )
    [record] = until("the correction", lambda: stage.pending(project)["records"])
    assert record["tags"] == {"origin": "feedback", "request_id": "chatcmpl-1"}
    asked = httpx.post(f"{stage.prep}/v1/projects/{project}/freeze")
    assert asked.status_code == 202


def test_what_cannot_be_taken_is_refused_with_a_reason_event(stage: Stage, project: str) -> None:
    stage.define(project)
    wrong = RecordSubmittedV1(project=project, record_id="wrong", record={"question": "?"})
    nobody = RecordSubmittedV1(project=f"{project}-not", record_id="x", record={"text": "x"})
    stage.send(wrong, nobody)
    assert stage.received("ingestion.record.refused.v1", project, 1)[0]["reason"] == "unknown_format"
    assert stage.received("ingestion.record.refused.v1", nobody.project, 1)[0]["reason"] == "unknown_project"


def test_a_record_that_comes_before_its_project_is_taken(stage: Stage, project: str) -> None:
    stage.send(RecordSubmittedV1(project=project, record_id="early", record={"text": "early bird"}))
    stage.define(project)
    [record] = until("the early record", lambda: stage.pending(project)["records"])
    assert record["record_id"] == "early"


def test_an_empty_dataset_says_why(stage: Stage, project: str) -> None:
    stage.define(project, min_chars=1000)
    upload(stage, project, lines(3))
    until("the records", lambda: stage.pending(project)["total"] == 3)
    httpx.post(f"{stage.prep}/v1/projects/{project}/freeze")
    failure = until("the failure", lambda: stage.pending(project)["failure"])
    assert failure["code"] == "empty_dataset"
    assert "3 too_short" in failure["detail"]
    assert stage.datasets(project) == []


def replayed(stage: Stage, name: str) -> dict[str, Any]:
    settings = {"NORIA_HOME": str(stage.home), "NORIA_KAFKA_BOOTSTRAP": stage.kafka}
    command = [sys.executable, "-m", "services.chassis.replay.rebuild", name]
    done = subprocess.run(command, env={**os.environ, **settings}, capture_output=True, text=True, check=False)
    assert done.returncode in (0, 1), done.stderr[-3000:]
    found = json.loads(done.stdout)
    assert done.returncode == bool(found["differences"])
    return found


@pytest.mark.parametrize(
    ("name", "table", "column", "which"),
    [("ingestion", "record", "fingerprint", "record_id = 'r0'"), ("prep", "dataset", "version", "number = 1")],
)
def test_state_is_what_the_log_tells_and_a_changed_row_is_named(
    stage: Stage, project: str, name: str, table: str, column: str, which: str
) -> None:
    stage.define(project, freeze=Freeze.model_validate({"records": 5, "quiet": "1s"}))
    upload(stage, project, lines(8))
    upload(stage, project, lines(2))
    stage.send(RecordSubmittedV1(project=f"{project}-not", record_id="x", record={"text": "x"}))
    until("a dataset", lambda: stage.datasets(project))
    stage.received("ingestion.record.refused.v1", f"{project}-not", 1)
    found = until("the services to be idle", lambda: not (f := replayed(stage, name))["differences"] and f)
    assert found["messages"] >= 10

    database = sqlite3.connect(stage.home / "state" / f"{name}.db")
    with database:
        query = f"UPDATE {table} SET {column} = 'tampered' WHERE project = ? AND {which}"
        database.execute(query, (project,))
    database.close()
    [difference] = replayed(stage, name)["differences"]
    assert (difference["table"], difference["column"], difference["live"]) == (table, column, "tampered")
    assert difference["rebuilt"] != "tampered"


PLANTED = ("planted.{}@example.com", "sk-proj-planted{}abcdEFGH12345678")
"""An address and a key, of a door each."""


def everything(kafka: str, but: str) -> bytes:
    """The bytes of all topics but one: keys, values and headers."""
    consumer = Consumer({"bootstrap.servers": kafka, "group.id": str(uuid.uuid4())})
    places = [
        TopicPartition(name, part, 0)
        for name, topic in consumer.list_topics(timeout=10).topics.items()
        if name != but and not name.startswith("__")
        for part in topic.partitions
    ]
    ends = {(p.topic, p.partition): consumer.get_watermark_offsets(p, 10)[1] for p in places}
    left, found = sum(ends.values()), list[bytes]()
    consumer.assign(places)
    deadline = time.monotonic() + 30
    while left and time.monotonic() < deadline:
        for message in consumer.consume(500, 0.5):
            found.append(repr((message.key(), message.value(), message.headers())).encode())
            left -= 1
    consumer.close()
    assert not left, "not all was read"
    return b"\n".join(found)


def test_what_a_project_hides_is_kept_nowhere(stage: Stage, project: str) -> None:
    """By every door: rows, an event, a trace, and over Kafka an event, one that is refused, and a message that is none."""
    stage.define(project, Ingest(pii="redact"), held_out=0, freeze=Freeze.model_validate({"records": 4, "quiet": "0s"}))
    mails, keys = ([form.format(n) for n in range(7)] for form in PLANTED)
    rows = [
        {"instruction": f"write to {mails[0]}", "output": keys[0]},
        {"messages": [{"role": keys[1], "content": mails[1]}]},
    ]
    assert len(upload(stage, project, "\n".join(map(json.dumps, rows)))["refused"]) == 1
    named = {"specversion": "1.0", "id": project, "source": "urn:x", "type": "io.noria.upstream.record.submitted.v1"}
    data = {
        "project": project,
        "record_id": "e",
        "subject": mails[2],
        "record": {"prompt": "who?", "completion": keys[2]},
    }
    assert httpx.post(f"{stage.ingestion}/v1/events", json={**named, "data": data}).is_success
    turns = {"input": [{"role": "user", "content": mails[3]}], "output": [{"role": "assistant", "content": keys[3]}]}
    told = [{"key": f"gen_ai.{n}.messages", "value": {"stringValue": json.dumps(turn)}} for n, turn in turns.items()]
    body = {
        "resourceSpans": [{"scopeSpans": [{"spans": [{"traceId": "1" * 32, "spanId": "2" * 16, "attributes": told}]}]}]
    }
    assert httpx.post(f"{stage.ingestion}/v1/projects/{project}/v1/traces", json=body).json() == {}

    stage.send(
        RecordSubmittedV1(project=project, record_id="k", record={"prompt": mails[4], "completion": keys[4]}),
        RecordSubmittedV1(project=project, record_id=mails[5], record={"question": keys[5]}),
    )
    producer = Producer({"bootstrap.servers": stage.kafka})
    producer.produce(RecordSubmittedV1.TOPIC, value=f'{{"project": "{project}", {mails[6]} {keys[6]}'.encode())
    assert producer.flush(10) == 0
    counts = f"{stage.ingestion}/v1/projects/{project}/records/counts"
    until("four records and a refusal", lambda: [httpx.get(counts).json()[n] for n in ("records", "refused")] == [4, 1])
    [letter] = stage.letters(project)
    assert b"<EMAIL_ADDRESS_1>" in letter
    until("a dataset", lambda: stage.datasets(project))

    seen = {"topics": everything(stage.kafka, RecordSubmittedV1.TOPIC)}
    seen |= {str(path): path.read_bytes() for path in stage.home.rglob("*") if path.is_file()}
    assert any(b"EMAIL_ADDRESS_1" in content for content in seen.values())
    leaks = [
        (name, secret) for name, content in seen.items() for secret in (*mails, *keys) if secret.encode() in content
    ]
    assert not leaks
