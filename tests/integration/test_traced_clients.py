"""An application feeds a project by its environment alone: unmodified instrumentations around the openai client."""

import json
import os
import subprocess
import threading
import time
from collections.abc import Iterator
from datetime import UTC, datetime
from http.server import BaseHTTPRequestHandler, ThreadingHTTPServer
from pathlib import Path
from typing import Any

import pytest
import uvicorn
from fastapi import FastAPI
from sqlalchemy import text
from sqlmodel import Session

from contracts.envelope import Meta
from contracts.events.ingestion import RecordAcceptedV1
from contracts.events.upstream import RecordSubmittedV1
from services.chassis.context import Context
from services.chassis.http import guard, keys
from services.chassis.http.application import answer, install_errors
from services.chassis.storage.database import reading, writing
from services.ingestion import handlers
from services.ingestion.http import make_router
from services.ingestion.store import SqlStore
from tests.integration import client_environments
from tests.unit.ingestion.test_ingestion_http import context, sent

__all__ = ["context"]
OPENAI_V2 = {"OTEL_INSTRUMENTATION_GENAI_CAPTURE_MESSAGE_CONTENT": "true"}
SCRIPT = Path(__file__).parent / "clients" / "traced_openai_client.py"
CALL: Any = {"id": "call_9", "type": "function", "function": {"name": "sky", "arguments": '{"at": "noon"}'}}
ASKED: list[Any] = [
    {"role": "system", "content": "Be brief."},
    {"role": "user", "content": "What color is the sky at noon? Größe: ½"},
]
CALLED: Any = {"role": "assistant", "content": "", "tool_calls": [CALL]}
LONG, SHORT = ({"role": "assistant", "content": text} for text in ("It is blue.", "Blue."))
CONVERSATIONS: list[list[Any]] = [
    [*ASKED, CALLED],
    [*ASKED, CALLED | {"weight": 0}, {"role": "tool", "content": "blue", "tool_call_id": "call_9"}, LONG],
    [*ASKED, LONG],
    [*ASKED, LONG],
    [*ASKED, SHORT],
]
"""What the script asks and is answered: with a tool, its result, as a stream, and two answers at once."""


class OpenAI(BaseHTTPRequestHandler):
    """As much of OpenAI's API as the script asks."""

    protocol_version = "HTTP/1.1"

    @staticmethod
    def before_answer() -> None:
        """Nothing; a test may wait here."""

    def do_POST(self) -> None:
        asked = json.loads(self.rfile.read(int(self.headers["content-length"])))
        if "embeddings" not in self.path:
            self.before_answer()
        if asked["model"] == "missing":
            return self.give(404, json.dumps({"error": {"message": "no such model", "code": "model_not_found"}}))
        if "embeddings" in self.path:
            data = [{"object": "embedding", "index": 0, "embedding": [0.1, 0.2]}]
            usage = {"prompt_tokens": 1, "total_tokens": 1}
            return self.give(200, json.dumps({"object": "list", "model": "e", "data": data, "usage": usage}))
        if asked.get("stream"):
            return self.stream("".join(LONG["content"]))
        calls = asked.get("tools") and asked["messages"][-1]["role"] != "tool"
        messages = [{**CALLED, "content": None}] if calls else [LONG, SHORT][: asked.get("n") or 1]
        choices = [{"index": i, "message": m, "finish_reason": "stop"} for i, m in enumerate(messages)]
        return self.give(200, json.dumps({**ABOUT, "object": "chat.completion", "choices": choices}))

    def stream(self, text: str) -> None:
        deltas: list[Any] = [{"role": "assistant", "content": ""}, *({"content": part} for part in text.partition(" "))]
        chunks = [{"index": 0, "delta": delta, "finish_reason": None} for delta in deltas]
        chunks.append({"index": 0, "delta": {}, "finish_reason": "stop"})
        lines = [json.dumps({**ABOUT, "object": "chat.completion.chunk", "choices": [chunk]}) for chunk in chunks]
        self.give(200, "".join(f"data: {line}\n\n" for line in [*lines, "[DONE]"]), "text/event-stream")

    def give(self, status: int, body: str, media: str = "application/json") -> None:
        self.send_response(status)
        self.send_header("content-type", media)
        self.send_header("content-length", str(len(body)))
        self.end_headers()
        self.wfile.write(body.encode())

    def log_message(self, format: str, *args: object) -> None:
        """Nothing."""


ABOUT = {"id": "chatcmpl-1", "created": 1, "model": "gpt-x"}


@pytest.fixture
def openai() -> Iterator[str]:
    server = ThreadingHTTPServer(("127.0.0.1", 0), OpenAI)
    threading.Thread(target=server.serve_forever, daemon=True).start()
    yield f"http://127.0.0.1:{server.server_port}/v1"
    server.shutdown()
    server.server_close()


@pytest.fixture
def door(context: Context[SqlStore]) -> Iterator[tuple[str, str]]:
    """Ingestion's entrance on a port, behind a key: its address and the key."""
    kept, key = keys.generate(["submit"], ["p"], "", datetime.now(UTC))
    keys.change(context.settings.api_keys_file, lambda known: [*known, kept])
    app = FastAPI()
    install_errors(app)
    guard.install(app, guard.Guard(context.settings), answer, make_router(context))
    server = uvicorn.Server(uvicorn.Config(app, host="127.0.0.1", port=0, log_level="warning", lifespan="off"))
    thread = threading.Thread(target=server.run, daemon=True)
    thread.start()
    deadline = time.monotonic() + 20
    while not server.started and time.monotonic() < deadline:
        time.sleep(0.01)
    yield f"http://127.0.0.1:{server.servers[0].sockets[0].getsockname()[1]}", key
    server.should_exit = True
    thread.join(10)


@pytest.fixture
def split(request: pytest.FixtureRequest, context: Context[SqlStore], monkeypatch: pytest.MonkeyPatch) -> bool:
    """Where wished, an answer is given when ingestion has the question: no exporter sends both at once."""
    if not request.param:
        return False
    asked = 0

    def wait() -> None:
        nonlocal asked
        asked += 1
        deadline = time.monotonic() + 30
        while time.monotonic() < deadline:
            with reading(context.engine) as connection:
                if connection.execute(text("SELECT count(DISTINCT call) FROM part")).scalar_one() >= asked:
                    return
            time.sleep(0.01)

    monkeypatch.setattr(OpenAI, "before_answer", staticmethod(wait))
    return True


@pytest.mark.parametrize(
    ("instrumentation", "settings", "split"),
    [
        ("openinference", {}, False),
        ("openllmetry", {"OTEL_EXPORTER_OTLP_COMPRESSION": "gzip"}, False),
        ("openai_v2", OPENAI_V2, False),
        ("openai_v2", {**OPENAI_V2, "OTEL_BLRP_SCHEDULE_DELAY": "1"}, True),
    ],
    indirect=["split"],
)
def test_calls_become_conversations(
    instrumentation: str,
    settings: dict[str, str],
    split: bool,
    context: Context[SqlStore],
    openai: str,
    door: tuple[str, str],
) -> None:
    address, key = door
    variables = {
        "OTEL_EXPORTER_OTLP_ENDPOINT": f"{address}/v1/projects/p",
        "OTEL_EXPORTER_OTLP_HEADERS": f"Authorization=Bearer%20{key}",
        "OTEL_RESOURCE_ATTRIBUTES": "service.name=shop,noria.tag.consent=yes",
        "OPENAI_BASE_URL": openai,
        "OPENAI_API_KEY": "none",
    }
    command = [client_environments.python("traced"), SCRIPT, instrumentation]
    subprocess.run(command, check=True, timeout=120, env={"PATH": os.environ["PATH"], **variables, **settings})
    found = accepted(context)
    records = [event.record.model_dump(mode="json") for event in found]
    # A call whose events come in two exports is taken with the second: which of two is first depends on the machine.
    waited = context.metrics.registry.get_sample_value("noria_ingestion_otlp_total", {"outcome": "waiting"}) or 0
    assert not split or waited >= sum(len(messages) - 1 for messages in CONVERSATIONS[:4])
    assert sorted(map(json.dumps, (record["messages"] for record in records))) == sorted(map(json.dumps, CONVERSATIONS))
    assert all(event.sent is None and event.tags["consent"] == "yes" for event in found)
    assert {event.tags["service"] for event in found} == {"shop"}
    assert len({event.record_id for event in found}) == 5
    if instrumentation != "openai_v2":  # whose events tell no tools
        called = [any(turn.get("tool_calls") for turn in record["messages"]) for record in records]
        assert [bool(record.get("tools")) for record in records] == called


def accepted(context: Context[SqlStore]) -> list[RecordAcceptedV1]:
    """What ingestion accepts of what went to the topic."""
    found: list[RecordAcceptedV1] = []
    with writing(context.engine) as connection, Session(connection) as session:
        store = SqlStore(session)
        for id, value in sent(context):
            meta = Meta(id, "urn:test", "", datetime.now(UTC))
            done = handlers.on_record_submitted(RecordSubmittedV1.model_validate(value), meta, store)
            found += [event for event in done if isinstance(event, RecordAcceptedV1)]
    return found
