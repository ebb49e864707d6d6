"""The child process of a job: two never work in the same folder, and a wish to stop is not lost."""

import asyncio
import signal
import time
from pathlib import Path
from typing import Any

import pytest

from services.chassis.jobs import process
from tests.integration.tiny.harness import until

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


class Resource:
    def __init__(self, begun: Path) -> None:
        self.begun = begun

    def __del__(self) -> None:
        self.begun.touch()
        time.sleep(60)


def stops_in_a_destructor(spec: dict[str, Any], workdir: Path, report: Any) -> dict[str, Any]:
    Resource(workdir / "begun")
    time.sleep(60)
    return {}


def takes_the_stop_for_a_fault(spec: dict[str, Any], workdir: Path, report: Any) -> dict[str, Any]:
    try:
        (workdir / "begun").touch()
        time.sleep(60)
    except Exception:
        time.sleep(0.1)
    time.sleep(60)
    return {}


def cleans_up(spec: dict[str, Any], workdir: Path, report: Any) -> dict[str, Any]:
    try:
        (workdir / "begun").touch()
        time.sleep(60)
    finally:
        time.sleep(1)
        (workdir / "clean").touch()
    return {}


@pytest.mark.parametrize("function", [stops_in_a_destructor, takes_the_stop_for_a_fault, cleans_up])
def test_function_that_never_asks_ends_wherever_the_stop_meets_it(function: Any, tmp_path: Path) -> None:
    """What is raised in a destructor Python forgets: the child worked on until it was killed."""

    async def main() -> tuple[int, list[dict[str, Any]]]:
        running = await process.start(f"tests.unit.chassis.test_child:{function.__name__}", {}, tmp_path, {})
        await asyncio.to_thread(until, lambda: (tmp_path / "begun").exists(), bool)
        await running.stop(20)
        said = [message async for message in running.messages()]
        return await running.wait(), said

    assert asyncio.run(asyncio.wait_for(main(), 40)) == (0, [{"stopped": True}])
    assert (tmp_path / "clean").exists() == (function is cleans_up)
