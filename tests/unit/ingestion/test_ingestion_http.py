import asyncio
import gzip
import io
import json
import tempfile
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import pyarrow as pa
import pyarrow.parquet as pq
import pytest
from fastapi import FastAPI
from fastapi.testclient import TestClient
from sqlmodel import Session, select

from contracts.envelope import Meta
from contracts.events.registry import ProjectDefinedV1
from contracts.project import ProjectSpec
from services.chassis import files
from services.chassis.context import Context
from services.chassis.http import guard
from services.chassis.http.application import answer, install_errors
from services.chassis.messaging.outbox import unpack_headers
from services.chassis.observability.metrics import Metrics
from services.chassis.rows import text
from services.chassis.storage.artifacts import open_store
from services.chassis.storage.database import open_engine, reading, writing
from services.chassis.storage.migration import migrate
from services.chassis.storage.tables import Outbox
from services.cli.record_files import batches
from services.ingestion import handlers, record_reader, unpacking
from services.ingestion import http as entrance
from services.ingestion.http import make_router
from services.ingestion.settings import IngestionSettings
from services.ingestion.spool import spooled
from services.ingestion.store import SqlStore
from tests.unit.ingestion.test_ingestion_handlers import MIGRATIONS, NOW

URL = "/v1/projects/p/records"
NDJSON = {"content-type": "application/x-ndjson"}


@pytest.fixture
def context(tmp_path: Path) -> Iterator[Context[SqlStore]]:
    settings = IngestionSettings(home=tmp_path, upload_bytes=100_000, events_bytes=50_000, json_bytes=50_000)
    engine = open_engine(settings)
    migrate(engine, "ingestion", MIGRATIONS)
    with writing(engine) as connection, Session(connection) as session:
        spec = ProjectSpec(project="p", base="b")
        event = ProjectDefinedV1(project="p", revision="0" * 64, spec=spec)
        list(handlers.on_project_defined(event, Meta("1", "urn:test", "", NOW), SqlStore(session)))
        session.flush()
    yield Context(settings, engine, SqlStore, open_store(settings), Metrics("ingestion"))
    engine.dispose()


@pytest.fixture
def client(context: Context[SqlStore]) -> Iterator[TestClient]:
    app = FastAPI()
    install_errors(app)
    guard.install(app, guard.Guard(context.settings), answer, make_router(context))
    with TestClient(app) as client:
        yield client


def sent(context: Context[SqlStore]) -> list[tuple[str, dict[str, Any]]]:
    """(ce_id, value) of the events to publish."""
    with reading(context.engine) as connection, Session(connection) as session:
        rows = session.exec(select(Outbox).order_by("id")).all()
        assert all(row.topic == "upstream.record.submitted.v1" for row in rows)
        ids = [dict(unpack_headers(row.headers))["ce_id"] or b"" for row in rows]
        return [(id.decode(), json.loads(row.value or b"")) for id, row in zip(ids, rows, strict=True)]


def test_jsonl_is_taken_line_by_line(client: TestClient, context: Context[SqlStore]) -> None:
    items = [{"record_id": "a", "record": {"text": "one"}, "tags": {"t": "1"}}, {"text": "two"}]
    body = "\ufeff" + "\n".join([json.dumps(items[0]), "", "not json", json.dumps(items[1]), '{"record": {"x": 1}}'])
    answer = client.post(URL, content=body.encode(), headers=NDJSON)
    assert answer.status_code == 202
    given = answer.json()
    assert [(x["line"], x["record_id"][:4]) for x in given["accepted"]] == [(1, "a"), (4, "sha-")]
    assert [(x["line"], x["reason"]) for x in given["refused"]] == [(3, "not_json"), (5, "unknown_format")]
    events = sent(context)
    assert [id for id, _ in events] == [x["id"] for x in given["accepted"]]
    assert (events[0][1]["record_id"], events[0][1]["record"]) == ("a", {"text": "one"})
    assert events[0][1]["tags"] == {"t": "1"}


@pytest.mark.parametrize("whole", [[{"text": "one"}, {"text": "two"}], {"text": "one"}])
def test_json_is_an_item_or_an_array(client: TestClient, context: Context[SqlStore], whole: Any) -> None:
    answer = client.post(URL, json=whole)
    assert [x["line"] for x in answer.json()["accepted"]] == list(range(1, len(sent(context)) + 1))
    assert len(sent(context)) == (len(whole) if isinstance(whole, list) else 1)


def parquet(rows: list[dict[str, Any]]) -> bytes:
    out = io.BytesIO()
    pq.write_table(pa.Table.from_pylist(rows), out)
    return out.getvalue()


def test_parquet_rows_are_items(client: TestClient, context: Context[SqlStore]) -> None:
    chat = {"messages": [{"role": "user", "content": "q"}, {"role": "assistant", "content": "a"}]}
    rows = [{"record_id": "a", "record": chat, "subject": None}, {"record_id": "b", "record": {"messages": []}}]
    headers = {"content-type": "application/vnd.apache.parquet"}
    answer = client.post(URL, content=parquet(rows), headers=headers).json()
    assert [x["record_id"] for x in answer["accepted"]] == ["a"]
    assert [(x["line"], x["reason"]) for x in answer["refused"]] == [(2, "invalid_field")]
    assert sent(context)[0][1]["record"] == chat


def test_a_file_may_come_as_a_form(client: TestClient, context: Context[SqlStore]) -> None:
    rows = parquet([{"prompt": "q", "completion": "a"}])
    assert client.post(URL, files={"file": ("records.parquet", rows)}).status_code == 202
    assert client.post(URL, files={"file": ("records.jsonl", b'{"text": "x"}')}).status_code == 202
    assert len(sent(context)) == 2
    assert client.post(URL, files={"other": ("records.jsonl", b"{}")}).json()["error"]["code"] == "no_file"
    assert client.post(URL, files={"file": ("records.xlsx", b"a,b")}).status_code == 415


def test_a_retry_under_its_key_repeats_the_ids(client: TestClient, context: Context[SqlStore]) -> None:
    for _ in range(2):
        client.post(URL, content=b'{"text": "x"}\n', headers=NDJSON | {"idempotency-key": "k"})
    client.post(URL, content=b'{"text": "x"}\n', headers=NDJSON)
    first, again, other = sent(context)
    assert first == again
    assert other[0] != first[0]
    assert other[1] == first[1]


@pytest.mark.parametrize(
    ("content", "content_type", "status", "code"),
    [
        (b'{"x": 1}\n', "application/x-ndjson", 422, "all_refused"),
        (b"\n\n", "application/x-ndjson", 422, "no_records"),
        (b"[", "application/json", 400, "not_json"),
        (b"\xff", "application/json", 400, "not_utf8"),
        (b"[" * 40_000, "application/json", 400, "too_deep"),
        (b"PAR1 no PAR1", "application/vnd.apache.parquet", 400, "not_parquet"),
        (b"a;b", "text/csv", 400, "not_csv"),
        (b"\xff\xff\xff\xff", "application/x-ndjson", 400, "not_arrow"),
        (b"PK\x03\x04", "application/x-ndjson", 400, "not_text"),
        (b"\xff\xfe\x00", "application/x-ndjson", 400, "not_utf8"),
        (b"\x1f\x8b", "application/json", 400, "bad_archive"),
        (b"\x28\xb5\x2f\xfd", "text/csv", 400, "cannot_read"),
        (b'{"number": ' + b"9" * 5_000 + b"}", "application/json", 422, "all_refused"),
        (b"a,b", "text/html", 415, "unsupported_type"),
        (b" " * 60_000, "application/json", 422, "no_records"),
        (b"[" + b" " * 60_000, "application/json", 400, "not_json"),
        (b"x" * 100_001, "application/x-ndjson", 413, "too_large"),
    ],
)
def test_a_wrong_upload_is_answered_with_its_reason(
    client: TestClient, context: Context[SqlStore], content: bytes, content_type: str, status: int, code: str
) -> None:
    answer = client.post(URL, content=content, headers={"content-type": content_type})
    assert (answer.status_code, answer.json()["error"]["code"]) == (status, code), answer.text
    assert sent(context) == []


def test_a_refusal_names_line_and_reason(client: TestClient) -> None:
    error = client.post(URL, content=b'\n{"x": 1}\n', headers=NDJSON).json()["error"]
    assert "line 2: unknown_format" in error["message"]
    assert error["detail"]["refused"][0]["line"] == 2


def test_an_upload_without_length_is_cut_off(client: TestClient, context: Context[SqlStore]) -> None:
    answer = client.post(URL, content=(b"x" * 1000 for _ in range(200)), headers=NDJSON)
    assert answer.status_code == 413
    assert sent(context) == []


def test_a_limit_is_told_with_the_setting_that_raises_it(client: TestClient) -> None:
    said = client.post(URL, content=b"x" * 100_001, headers=NDJSON).json()["error"]["message"]
    assert said.startswith("the body has more than 100000 bytes")
    assert "NORIA_INGESTION_UPLOAD_BYTES" in said
    said = client.post("/v1/events", content=b"x" * 50_001).json()["error"]["message"]
    assert "NORIA_INGESTION_EVENTS_BYTES" in said


def test_a_format_in_the_address_says_what_no_content_type_does(client: TestClient, context: Context[SqlStore]) -> None:
    body, binary = b'{"text": "x"}\n', {"content-type": "application/octet-stream"}
    refused = client.post(URL, content=body, headers=binary)
    assert (refused.status_code, "give ?format= one of json, jsonl," in refused.text) == (415, True)
    assert client.post(f"{URL}?format=jsonl", content=body, headers=binary).status_code == 202
    assert client.post(f"{URL}?format=csv", files={"file": ("a.bin", b"text\nx\n")}).status_code == 202
    assert client.post(f"{URL}?format=xlsx", content=body, headers=binary).status_code == 422
    assert [event["record"] for _, event in sent(context)] == [{"text": "x"}] * 2


def test_the_answer_lists_a_bounded_number_and_counts_all(client: TestClient, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(entrance, "KEPT", 3)
    monkeypatch.setattr(record_reader, "BATCH_ITEMS", 2)
    body = b'{"text": "x"}\n{"txt": 1}\n' * 5 + b"no json\n"
    given = client.post(URL, content=body, headers=NDJSON).json()
    assert ([x["line"] for x in given["accepted"]], [x["line"] for x in given["refused"]]) == ([1, 3, 5], [2, 4, 6])
    assert (given["accepted_count"], given["refused_count"]) == (5, 6)
    assert given["refused_by_reason"] == {"unknown_format": 5, "not_json": 1}


LINES = b"".join(json.dumps({"text": f"{i} " + "x" * 1000}).encode() + b"\n" for i in range(90))


@pytest.mark.parametrize("name", ["a.jsonl", "a.jsonl.gz"])
def test_an_upload_lies_under_the_services_home_while_it_is_read(
    name: str, client: TestClient, context: Context[SqlStore], monkeypatch: pytest.MonkeyPatch, tmp_path: Path
) -> None:
    """The system's folder for temporary files may be memory; there is none here that could be written to."""
    monkeypatch.setattr(tempfile, "tempdir", str(tmp_path / "nowhere"))
    left = tmp_path / "uploads" / "left-by-a-killed-process"
    left.mkdir(parents=True)
    (left / "upload").write_bytes(b"x")
    body = LINES if name == "a.jsonl" else gzip.compress(LINES)
    assert client.post(URL, files={"file": (name, body)}).json()["accepted_count"] == 90
    assert [each for each in (tmp_path / "uploads").iterdir() if each.is_dir()] == []


def test_a_folder_that_a_request_holds_is_left_alone(tmp_path: Path) -> None:
    async def both() -> None:
        async with spooled(tmp_path) as first:
            (first / "upload").write_bytes(b"x")
            async with spooled(tmp_path) as second:
                assert (first / "upload").exists()
            assert not second.exists()
        assert not first.exists()

    asyncio.run(both())


@pytest.mark.parametrize("name", ["a.jsonl", "a.jsonl.gz"])
def test_a_disk_without_room_refuses_an_upload_for_now(
    name: str, context: Context[SqlStore], client: TestClient, monkeypatch: pytest.MonkeyPatch
) -> None:
    """Of the packed one what it unpacks to is too long: another process's write."""
    monkeypatch.setattr(files, "LOOK", 50_000)
    monkeypatch.setattr(context.settings, "upload_reserve_bytes", 1 << 60)
    if name.endswith(".gz"):
        monkeypatch.setattr(unpacking, "PROGRAM", ("-c", LOOKING_OFTEN))
    body = LINES if name == "a.jsonl" else gzip.compress(LINES)
    answer = client.post(URL, files={"file": (name, body)})
    assert (answer.status_code, answer.json()["error"]["code"]) == (503, "no_room"), answer.text
    assert "NORIA_INGESTION_UPLOAD_RESERVE_BYTES" in answer.text
    assert answer.headers["retry-after"]
    assert sent(context) == []


LOOKING_OFTEN = (
    "from services.chassis import files; files.LOOK = 50_000; from services.chassis.rows.unpack import main; main()"
)


def test_an_unknown_project_is_not_found(client: TestClient) -> None:
    for name in ("nobody", "%00"):
        answer = client.post(f"/v1/projects/{name}/records", json={"text": "x"})
        assert (answer.status_code, answer.json()["error"]["code"]) == (404, "unknown_project")
    assert client.get("/v1/projects/nobody/records/counts").status_code == 404
    assert client.get("/v1/projects/p/records/counts").json()["accepted"] == 0


def test_a_line_that_is_too_long_is_refused_and_the_next_is_read(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(text, "MAX_LINE", 50)
    path = tmp_path / "x.jsonl"
    path.write_bytes(b'{"text": "' + b"x" * 500 + b'"}\n{"text": "y"}\n')
    [batch] = record_reader.of_jsonl(path, "p")
    assert [(r.line, r.reason) for r in batch.refused] == [(1, "too_large")]
    assert [line for line, _ in batch.taken] == [2]


def test_a_long_file_comes_in_batches(tmp_path: Path) -> None:
    path = tmp_path / "x.jsonl"
    path.write_text("".join(json.dumps({"text": str(i)}) + "\n" for i in range(1201)))
    assert [len(batch.taken) for batch in record_reader.of_jsonl(path, "p")] == [500, 500, 201]


@pytest.mark.parametrize(
    "line",
    [
        b'{"record": {"\\ud800": 1}}',
        b'{"\\ud800": 1}',
        b'{"record": {"text": "a"}, "tags": {"\\ud800": "x"}}',
        b'{"record": {"text": "a"}, "tags": {"t": "\\udfff"}}',
        b'{"record": {"text": "a"}, "tags": "{\\"t\\": \\"\\\\ud800\\"}"}',
    ],
)
def test_line_with_half_a_character_is_refused_and_its_neighbours_taken(client: TestClient, line: bytes) -> None:
    body = b"\n".join([b'{"text": "before"}', line, b'{"text": "after"}'])
    for content, headers in ((body, NDJSON), (b"[" + body.replace(b"\n", b",") + b"]", None)):
        given = client.post(URL, content=content, headers=headers or {"content-type": "application/json"}).json()
        assert [x["line"] for x in given["accepted"]] == [1, 3]
        assert [x["line"] for x in given["refused"]] == [2]


def packed(rows: list[dict[str, Any]]) -> dict[str, bytes]:
    """The same rows in several kinds of files."""
    lines = "".join(json.dumps(row) + "\n" for row in rows).encode()
    table = "prompt,completion,topic\r\n" + "".join(",".join(row.values()) + "\r\n" for row in rows)
    return {
        "a.jsonl.gz": gzip.compress(lines),
        "a.jsonl.zst": pa.compress(lines, "zstd", asbytes=True),
        "a.json": lines,
        "b.json": json.dumps(rows, indent=1).encode("utf-16"),
        "c.json": b"\n".join(json.dumps(row, indent=1).encode() for row in rows),
        "a.csv": table.encode("utf-16"),
        "a.tsv": table.replace(",", "\t").encode(),
        "a.parquet": parquet(rows),
    }


ROWS = [{"prompt": f"q{i}", "completion": "a", "topic": "tar"} for i in range(2)]


@pytest.mark.parametrize("name", packed(ROWS))
def test_every_kind_of_file_gives_the_records_that_the_console_sends(
    name: str, client: TestClient, context: Context[SqlStore], tmp_path: Path
) -> None:
    (tmp_path / name).write_bytes(packed(ROWS)[name])
    answer = client.post(URL, files={"file": (name, packed(ROWS)[name])}).json()
    assert [x["line"] for x in answer["accepted"]] == [1, 2]
    by_file = [event["record"] for _, event in sent(context)]
    for batch in batches(tmp_path / name):
        assert client.post(URL, content=batch.body, headers=NDJSON).status_code == 202
    assert [event["record"] for _, event in sent(context)] == by_file * 2 == ROWS * 2


def test_a_file_that_bursts_is_refused_whole(client: TestClient, context: Context[SqlStore]) -> None:
    bomb = gzip.compress(b'{"text": "x"}\n' * 100_000)
    answer = client.post(URL, files={"file": ("a.jsonl.gz", bomb)})
    assert (answer.status_code, answer.json()["error"]["code"]) == (400, "too_large")
    broken = gzip.compress(b'{"text": "x"}\n' * 9)[:-5]
    answer = client.post(URL, files={"file": ("a.jsonl.gz", broken)})
    assert (answer.status_code, answer.json()["error"]["code"]) == (400, "bad_archive")
    assert sent(context) == []


def test_a_row_that_is_none_is_refused_in_its_place(client: TestClient) -> None:
    given = client.post(URL, content=b"text,b\nx,1\ny,1,2\n", headers={"content-type": "text/csv"}).json()
    assert [x["line"] for x in given["accepted"]] == [1]
    assert [(x["line"], x["reason"]) for x in given["refused"]] == [(2, "bad_row")]


def test_a_packed_body_and_a_key_that_stands_twice(client: TestClient, context: Context[SqlStore]) -> None:
    body = gzip.compress(b'{"text": "first", "text": "last"}\n')
    assert client.post(URL, content=body, headers=NDJSON | {"content-encoding": "gzip"}).status_code == 202
    assert [event["record"] for _, event in sent(context)] == [{"text": "last"}]
