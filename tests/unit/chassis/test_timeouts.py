"""A wait with a limit leaves a cancellation alone."""

import asyncio

import pytest

from services.chassis.timeouts import wait_at_most


@pytest.mark.parametrize("turns", range(4))
def test_wish_to_end_is_not_lost_in_the_moment_of_an_event(turns: int) -> None:
    """With `asyncio.wait_for` of Python 3.11 one of these goes on: a job's heart beat for ever after its process ended."""

    async def main() -> bool:
        event = asyncio.Event()
        task = asyncio.create_task(wait_at_most(event, 10))
        await asyncio.sleep(0.01)
        event.set()
        for _ in range(turns):
            await asyncio.sleep(0)
        asked = task.cancel()
        await asyncio.wait([task])
        return task.cancelled() or not asked

    assert asyncio.run(main())


def test_an_event_that_does_not_come_ends_the_wait() -> None:
    async def main() -> None:
        await wait_at_most(asyncio.Event(), 0.01)

    asyncio.run(asyncio.wait_for(main(), 5))
