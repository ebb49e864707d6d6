"""Who waits for the embedder and who is told at once."""

import asyncio

import pytest

from services.serving.domain.errors import Unavailable
from services.serving.embedder import Embedder


def test_the_first_request_has_it_loaded_and_waits() -> None:
    async def run() -> str:
        embedder = Embedder()
        waiting = asyncio.create_task(embedder.held())
        await asyncio.sleep(0)
        assert (embedder.wanted, embedder.wake.is_set(), waiting.done()) == (True, True, False)
        embedder.took("one")
        return await waiting

    assert asyncio.run(run()) == "one"


def test_where_the_load_failed_nobody_waits_and_the_reason_is_told() -> None:
    async def run() -> str:
        embedder = Embedder()
        embedder.failed("the file is no model")
        with pytest.raises(Unavailable, match="does not answer: the file is no model"):
            async with asyncio.timeout(1):
                await embedder.held()
        embedder.loading()
        waiting = asyncio.create_task(embedder.held())
        await asyncio.sleep(0)
        assert not waiting.done()
        embedder.took("two")
        return await waiting

    assert asyncio.run(run()) == "two"
