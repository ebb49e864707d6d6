"""A client that stops reading, on a real server and a real socket: the buffers between the two fill, and it is cut."""

import asyncio
import socket
import time
from collections.abc import AsyncGenerator
from pathlib import Path
from typing import Any

import pytest
import uvicorn

from contracts.events.serving import InferenceCompletedV1
from services.serving.admission import admit
from services.serving.completion_response import CompletionResponse
from services.serving.domain.reconcile import Loaded
from services.serving.domain.routing import build
from services.serving.runtime import Runtime
from services.serving.settings import ServingSettings
from services.serving.triton import client
from services.serving.triton.client import Chunk
from tests.conftest import free_port
from tests.unit.serving.builders import TemplatesHere, chat, target

PIECE, PIECES = "x" * 5000, 100_000
NOWHERE: Any = object()


@pytest.fixture(autouse=True)
def _endless_answer(monkeypatch: pytest.MonkeyPatch) -> None:
    """More than any buffers hold, one piece for each turn of the loop."""

    async def generate(*_: Any, **__: Any) -> AsyncGenerator[Chunk]:
        for tokens in range(1, PIECES):
            yield Chunk(PIECE, None, 5, tokens)
            await asyncio.sleep(0)

    monkeypatch.setattr(client, "generate", generate)


def test_a_client_that_stops_reading_is_cut_and_frees_its_row(tmp_path: Path) -> None:
    records, recorded, port = list[InferenceCompletedV1](), asyncio.Event(), free_port()

    async def record(event: InferenceCompletedV1) -> None:
        records.append(event)
        recorded.set()

    runtime = Runtime(ServingSettings(home=tmp_path, reader_seconds=0.5), up=True, triton=NOWHERE, record=record)
    here: Any = TemplatesHere()
    runtime.templates = here
    runtime.routes, runtime.loaded = build([target()], {"shop": 1}, ["shop"]), {target().triton_model: Loaded()}

    async def app(scope: Any, receive: Any, send: Any) -> None:
        completions, triton = await admit(runtime, chat(',"stream":true'), "", time.perf_counter())
        await CompletionResponse(runtime, completions, triton)(scope, receive, send)

    async def run() -> None:
        server = uvicorn.Server(uvicorn.Config(app, port=port, lifespan="off", log_config=None))
        serving, loop = asyncio.create_task(server.serve()), asyncio.get_running_loop()
        while not server.started:  # noqa: ASYNC110  uvicorn has no event for it
            await asyncio.sleep(0.01)
        with socket.socket() as reader:
            reader.setsockopt(socket.SOL_SOCKET, socket.SO_RCVBUF, 4096)
            reader.setblocking(False)
            await loop.sock_connect(reader, ("127.0.0.1", port))
            await loop.sock_sendall(reader, b"GET / HTTP/1.1\r\nhost: x\r\n\r\n")
            async with asyncio.timeout(30):
                await recorded.wait()
                await runtime.turns.ended()
        server.should_exit = True
        await serving

    asyncio.run(run())
    (cut,) = records
    assert (cut.status, (cut.error or "").split(":")[0]) == ("cancelled", "reader_stalled")
    assert cut.output == PIECE * cut.completion_tokens
    assert 0 < cut.completion_tokens < PIECES - 1
