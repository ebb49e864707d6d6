"""An idle service's garbage goes by time, not only by number."""

import asyncio
import gc
import weakref

import pytest

from services.chassis import memory


class Transport:
    """As asyncio's: it holds a method of its own."""

    def __init__(self) -> None:
        self.callback = self.close

    def close(self) -> None: ...


def test_cycles_of_an_idle_service_are_collected(monkeypatch: pytest.MonkeyPatch) -> None:
    async def collected() -> None:
        gone = asyncio.Event()
        weakref.finalize(Transport(), gone.set)
        assert not gone.is_set()
        task = asyncio.create_task(memory.keep_collecting_garbage())
        async with asyncio.timeout(5):
            await gone.wait()
        task.cancel()

    monkeypatch.setattr(memory, "LOOK_SECONDS", 0.001)
    gc.disable()
    try:
        asyncio.run(collected())
    finally:
        gc.enable()
