"""A gateway's queue: who is let on, who is refused and with which words, and what is measured."""

import asyncio
from collections.abc import Callable

import pytest

from services.serving.domain.errors import Overloaded, ShareFull
from services.serving.domain.fair_queue import Flow
from services.serving.turns import AHEAD, Ticket, Turns

ROWS = 4
A, B = Flow("a", "x"), Flow("b", "y")


class Clock:
    now = 100.0

    def __call__(self) -> float:
        return self.now


@pytest.fixture
def clock() -> Clock:
    return Clock()


def make(clock: Callable[[], float], most: int = 100, pace: float | None = 10.0) -> Turns:
    """Four rows of ten tokens a second."""
    return Turns(most, lambda _: ROWS, lambda _: pace, clock)


def join(turns: Turns, flow: Flow, count: int = 1, max_wait: float = 30.0) -> list[Ticket]:
    return [turns.join("m", flow, 100, 0, max_wait) for _ in range(count)]


def test_as_many_are_let_on_as_there_are_rows_and_the_next_when_one_ends(clock: Clock) -> None:
    turns = make(clock)
    tickets = join(turns, A, ROWS + AHEAD + 2)
    assert [t.turn.is_set() for t in tickets] == [True] * (ROWS + AHEAD) + [False] * 2
    turns.leave(tickets[0])
    assert [t.turn.is_set() for t in tickets[-2:]] == [True, False]
    turns.leave(tickets[-1])
    turns.leave(tickets[-1])
    assert (turns.at_work, turns.waiting) == (ROWS + AHEAD, 0)


def test_who_would_wait_too_long_is_refused_with_a_true_time(clock: Clock) -> None:
    """Each answer takes 10 s of a row: the 4 rows are free again after 10, 20, 30 s."""
    turns = make(clock)
    join(turns, A, 13)
    with pytest.raises(ShareFull) as own:
        join(turns, A, 4)
    assert (own.value.status, own.value.retry_after) == (429, 10)
    with pytest.raises(ShareFull):
        join(turns, A, max_wait=39)
    assert join(turns, A, max_wait=40)


def test_a_full_model_is_503_for_who_has_nothing_at_work(clock: Clock) -> None:
    turns = make(clock)
    for n in range(ROWS + AHEAD):
        join(turns, Flow("p", f"k{n}"))
    with pytest.raises(Overloaded) as full:
        join(turns, B, max_wait=5)
    assert (full.value.status, full.value.retry_after) == (503, 5)


def test_a_flood_of_one_key_does_not_close_the_door_to_another(clock: Clock) -> None:
    turns = make(clock)
    with pytest.raises(ShareFull):
        join(turns, A, 100)
    waiting = turns.waiting
    (other,) = join(turns, B)
    assert turns.waiting == waiting + 1
    assert turns.waits(other)[0] <= 20


def test_without_a_measure_nobody_holds_more_than_is_free(clock: Clock) -> None:
    turns = make(clock, most=30, pace=None)
    with pytest.raises(ShareFull, match="15 requests of this key"):
        join(turns, A, 31)
    with pytest.raises(ShareFull):
        join(turns, B, 31)
    assert turns.at_work == 15 + 8
    for n in range(30 - turns.at_work):
        join(turns, Flow("c", f"{n}"))
    with pytest.raises(Overloaded, match="30 requests"):
        join(turns, Flow("d", "z"))


def test_the_pace_is_measured_from_the_turn_on(clock: Clock) -> None:
    turns = make(clock, pace=None)
    tickets = join(turns, A, 20)
    for ticket in tickets[:ROWS]:
        clock.now += 2.0
        turns.saw(ticket, 4)
    assert turns.waits(tickets[-1])[0] > 0
    before = turns.waits(tickets[-1])[0]
    turns.saw(tickets[0], 90)
    assert turns.waits(tickets[-1])[0] < before


def test_a_rush_after_light_traffic_is_refused_by_the_pace_of_a_full_model(clock: Clock) -> None:
    """12 tokens a second alone are some 2 a row among 32: who is not let on at once would wait two minutes."""
    turns = Turns(512, lambda _: 32, clock=clock)
    alone = turns.join("m", A, 256, 0, 30.0)
    clock.now += 256 / 12
    turns.saw(alone, 256, ended=True)
    turns.leave(alone)
    assert all(turns.join("m", A, 256, 0, 30.0) for _ in range(32))
    with pytest.raises(ShareFull) as refused:
        turns.join("m", A, 256, 0, 30.0)
    assert refused.value.retry_after > 60


def test_one_key_leaves_rows_to_others_that_asked_a_moment_ago(clock: Clock) -> None:
    turns = Turns(512, lambda _: 8, clock=clock, share=0.5)
    turns.leave(turns.join("m", B, 10, 0, 30.0))
    flood = [turns.join("m", A, 10, 0, 30.0) for _ in range(20)]
    assert sum(t.turn.is_set() for t in flood) == 4
    other = turns.join("m", B, 10, 0, 30.0)
    assert other.turn.is_set()
    clock.now += 61
    turns.leave(flood[0])
    assert sum(t.turn.is_set() for t in flood) == 4 + 1  # it still runs
    turns.leave(other)
    assert sum(t.turn.is_set() for t in flood[1:]) == 8 + AHEAD


def test_who_floods_waits_by_the_rows_that_it_may_have(clock: Clock) -> None:
    turns = Turns(512, lambda _: 4, lambda _: 10.0, clock=clock, share=0.5)
    turns.leave(turns.join("m", B, 10, 0, 30.0))
    for _ in range(4):
        turns.join("m", A, 100, 0, 30.0)
    with pytest.raises(ShareFull):
        turns.join("m", A, 100, 0, 19.0)
    assert turns.join("m", B, 100, 0, 1.0)


def test_a_long_request_in_parts_lets_another_s_come_between(clock: Clock) -> None:
    turns = Turns(100, lambda _: 1, lambda _: 10.0, clock)
    first, second = join(turns, A), join(turns, A)
    other = turns.join("m", B, 100, 0, 30.0)
    assert not other.turn.is_set()
    turns.again(first[0], 100)
    assert (other.turn.is_set(), first[0].turn.is_set(), turns.at_work) == (True, False, 3)
    turns.leave(second[0])
    assert first[0].turn.is_set()
    for ticket in (first[0], other):
        turns.leave(ticket)
    assert turns.at_work == 0


def test_a_drain_ends_with_the_last_request(clock: Clock) -> None:
    async def run() -> None:
        turns = make(clock)
        await turns.ended()
        first, second = join(turns, A, 2)
        ended = asyncio.create_task(turns.ended())
        turns.leave(first)
        await asyncio.sleep(0)
        assert not ended.done()
        turns.leave(second)
        async with asyncio.timeout(1):
            await ended

    asyncio.run(run())
