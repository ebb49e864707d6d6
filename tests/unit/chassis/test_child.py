"""The child process of a job: two never work in the same folder."""

import asyncio
import signal
from pathlib import Path
from typing import Any

from services.chassis.jobs import process
from tests.integration.tiny.stand import until

TARGET = "tests.integration.tiny.counting:work"


def test_child_of_a_worker_that_lost_its_lease_ends_before_the_next_begins(tmp_path: Path) -> None:
    """A stopped worker cannot end its child: both wrote the same checkpoint."""

    async def main() -> tuple[int, list[dict[str, Any]]]:
        old = await process.start(TARGET, {"how": "stubborn"}, tmp_path, {})
        await asyncio.to_thread(until, lambda: _holder(tmp_path), bool)
        new = await process.start(TARGET, {"how": "0"}, tmp_path, {})
        said = [message async for message in new.messages()]
        assert await new.wait() == 0
        return await old.wait(), said

    status, said = asyncio.run(asyncio.wait_for(main(), 30))
    assert status == -signal.SIGKILL
    assert said[-1] == {"result": {"first": 0, "last": 10}}


def _holder(folder: Path) -> str:
    place = folder / "holder"
    return place.read_text() if place.exists() else ""
