"""Waiting with a limit that leaves a cancellation alone.

Python 3.11's `asyncio.wait_for` swallows a cancellation that comes in the moment in which what it waits for is done: the
task goes on, and whoever waits for its end waits for ever (https://github.com/python/cpython/issues/86296, mended in 3.12).
`asyncio.timeout` does not; ruff refuses the other one in this project.
"""

import asyncio
import contextlib


async def wait_at_most(event: asyncio.Event, seconds: float) -> None:
    """Waits for the event, but not longer than `seconds`."""
    with contextlib.suppress(TimeoutError):
        async with asyncio.timeout(seconds):
            await event.wait()
