"""A service that is told to end goes on answering until it is drained, for a time at most."""

import asyncio
import signal
import time
from collections.abc import Iterator
from typing import Any

import httpx
import pytest
import uvicorn

from services.chassis.http import application
from tests.conftest import free_port


async def app(scope: Any, receive: Any, send: Any) -> None:
    assert scope["type"] == "http"
    await send({"type": "http.response.start", "status": 200, "headers": []})
    await send({"type": "http.response.body", "body": b"here"})


@pytest.fixture(autouse=True)
def _signal_that_ends_nothing() -> Iterator[None]:
    """uvicorn raises the signal once more for whoever handled it before (services/chassis/app.py)."""
    before = signal.signal(signal.SIGTERM, signal.SIG_IGN)
    yield
    signal.signal(signal.SIGTERM, before)


class Draining:
    """A server whose drain ends when `drained` is set."""

    def __init__(self, monkeypatch: pytest.MonkeyPatch, seconds: float) -> None:
        monkeypatch.setattr(application, "_end_hard", lambda: None)  # it would end the tests
        self.port, self.drained = free_port(), asyncio.Event()
        config = uvicorn.Config(app, port=self.port, log_config=None, lifespan="off", timeout_graceful_shutdown=1)
        self.server = application.Server(config, self.drain, seconds)
        self.draining = asyncio.Event()

    async def drain(self) -> None:
        self.draining.set()
        await self.drained.wait()

    async def __aenter__(self) -> "Draining":
        self.serving = asyncio.create_task(self.server.serve())
        async with asyncio.timeout(5):
            while not self.server.started:  # noqa: ASYNC110  uvicorn has no event for it
                await asyncio.sleep(0.01)
        return self

    async def __aexit__(self, *_: object) -> None:
        self.drained.set()
        await self.serving

    def end(self) -> None:
        self.server.handle_exit(signal.SIGTERM, None)

    async def answers(self) -> bool:
        async with httpx.AsyncClient() as client:
            return (await client.get(f"http://127.0.0.1:{self.port}/")).text == "here"


def test_it_answers_until_it_is_drained_and_then_ends(monkeypatch: pytest.MonkeyPatch) -> None:
    async def run() -> None:
        async with Draining(monkeypatch, 60.0) as service:
            service.end()
            await service.draining.wait()
            assert await service.answers()
            assert not service.serving.done()
            service.drained.set()
            async with asyncio.timeout(3):
                await service.serving

    asyncio.run(run())


@pytest.mark.parametrize(("seconds", "twice"), [(0.1, False), (60.0, True)])
def test_a_drain_that_does_not_end_is_ended(monkeypatch: pytest.MonkeyPatch, seconds: float, twice: bool) -> None:
    async def run() -> None:
        async with Draining(monkeypatch, seconds) as service:
            service.end()
            await service.draining.wait()
            begun = time.monotonic()
            if twice:
                service.end()
            async with asyncio.timeout(5):
                await service.serving
            assert time.monotonic() - begun < 4

    asyncio.run(run())
