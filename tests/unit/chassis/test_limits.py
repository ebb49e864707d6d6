import asyncio

import pytest
from hypothesis import given
from hypothesis import strategies as st
from starlette.types import Message

from services.chassis.http import limits
from services.chassis.http.limits import BodyLimit, BodyMeter, TokenBuckets, TooLarge


class Clock:
    now = 0.0

    def __call__(self) -> float:
        return self.now


def test_a_burst_passes_then_the_rate() -> None:
    clock = Clock()
    rates = TokenBuckets(2.0, 3, clock)
    assert [rates.wait("a") for _ in range(5)] == [0, 0, 0, 1, 1]
    assert rates.wait("b") == 0
    clock.now = 0.5
    assert [rates.wait("a") for _ in range(2)] == [0, 1]
    clock.now = 100
    assert [rates.wait("a") for _ in range(4)] == [0, 0, 0, 1]


def test_the_wait_is_long_enough() -> None:
    clock = Clock()
    rates = TokenBuckets(0.1, 1, clock)
    assert rates.wait("a") == 0
    wait = rates.wait("a")
    assert wait == 10
    clock.now = wait
    assert rates.wait("a") == 0


@given(st.lists(st.floats(0, 2), min_size=1, max_size=200))
def test_never_more_than_burst_and_rate(pauses: list[float]) -> None:
    clock = Clock()
    rates = TokenBuckets(3.0, 5, clock)
    passed = 0
    for pause in pauses:
        clock.now += pause
        passed += rates.wait("a") == 0
    assert passed <= 5 + 3.0 * clock.now + 1e-6


def test_no_rate_lets_all_pass() -> None:
    rates = TokenBuckets(0, 1)
    assert {rates.wait("a") for _ in range(1000)} == {0}


def test_callers_are_forgotten_in_time(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(limits, "REMEMBERED", 2)
    rates = TokenBuckets(1e-6, 1)
    assert [rates.wait(name) for name in "abc"] == [0, 0, 0]
    assert rates.wait("c") > 0
    assert rates.wait("a") == 0


def read(parts: list[bytes], declared: int, limit: int) -> int:
    """The bytes read until the end or the limit."""
    messages: list[Message] = [{"type": "http.request", "body": part} for part in parts]
    taken = 0

    async def receive() -> Message:
        nonlocal taken
        taken += len(messages[0]["body"])
        return messages.pop(0)

    async def all() -> None:
        meter = BodyMeter(receive, declared, BodyLimit(limit, "NORIA_X_BYTES"))
        while messages:
            await meter.receive()

    try:
        asyncio.run(all())
    except TooLarge:
        return -taken
    return taken


def test_a_body_is_cut_off_where_it_gets_too_long() -> None:
    assert read([b"x" * 5, b"x" * 5], 10, 10) == 10
    assert read([b"x" * 5, b"x" * 6, b"x"], 0, 10) == -11
    assert read([b"x"], 11, 10) == 0  # nothing was read of what said that it would be too long
