"""Turns by tokens between projects and keys, and the estimate of a wait."""

import heapq
from collections import defaultdict
from statistics import quantiles

import pytest
from hypothesis import given
from hypothesis import strategies as st

from services.serving.domain.fair_queue import FairQueue, Flow
from services.serving.domain.waiting import Pace, retry_after, wait_seconds

FLOWS = st.builds(Flow, st.sampled_from("abc"), st.sampled_from("xyz"))
ENTRIES = st.lists(st.tuples(FLOWS, st.floats(1, 500)), min_size=1, max_size=40)
TOKENS = st.lists(st.floats(0, 1000), max_size=20)


def filled(entries: list[tuple[Flow, float]]) -> FairQueue[int]:
    queue = FairQueue[int]()
    for item, (flow, tokens) in enumerate(entries):
        queue.put(flow, item, tokens)
    return queue


@given(ENTRIES)
def test_every_request_has_its_turn_and_each_flow_its_order(entries: list[tuple[Flow, float]]) -> None:
    queue = filled(entries)
    order = [queue.take() for _ in entries]
    assert sorted(order) == list(range(len(entries)))
    for flow in {flow for flow, _ in entries}:
        own = [item for item in order if entries[item][0] == flow]
        assert own == sorted(own)
    with pytest.raises(IndexError):
        queue.take()


@given(st.lists(st.tuples(st.booleans(), st.floats(1, 500)), min_size=2, max_size=60))
def test_two_projects_that_both_wait_are_never_further_apart_than_their_longest_requests(
    entries: list[tuple[bool, float]],
) -> None:
    """Start-time fair queueing's bound: |W1 - W2| <= longest of 1 + longest of 2 while both are backlogged."""
    queue = filled([(Flow("a" if first else "b", "x"), tokens) for first, tokens in entries])
    work = {True: 0.0, False: 0.0}
    longest = {kind: max((t for first, t in entries if first is kind), default=0.0) for kind in work}
    while len(queue.waiting) == 2:
        item = queue.take()
        work[entries[item][0]] += entries[item][1]
        assert abs(work[True] - work[False]) <= sum(longest.values()) + 1e-6


def test_keys_share_a_project_and_projects_share_the_model() -> None:
    entries = (
        [(Flow("big", "flood"), 10.0)] * 30 + [(Flow("big", "calm"), 10.0)] * 6 + [(Flow("small", "only"), 10.0)] * 9
    )
    queue, served = filled(entries), defaultdict[Flow, int](int)
    for _ in range(20):
        served[entries[queue.take()][0]] += 1
    assert served[Flow("small", "only")] == pytest.approx(9, abs=1)
    assert served[Flow("big", "calm")] == pytest.approx(served[Flow("big", "flood")], abs=1)


def test_who_was_idle_saves_nothing_up() -> None:
    queue = filled([(Flow("a", "x"), 10.0)] * 20)
    for _ in range(15):
        queue.take()
    for item in range(100, 105):
        queue.put(Flow("b", "x"), item, 10.0)
    turns = [queue.take() >= 100 for _ in range(10)]
    assert sum(turns[:4]) == 2
    assert sum(turns) == 5


def test_what_was_not_needed_is_given_back() -> None:
    """b is charged for 100 tokens and makes 10: it comes again before a has had 100."""
    entries = [(Flow("b", "x"), 100.0)] * 2 + [(Flow("a", "x"), 20.0)] * 6
    queue = filled(entries)
    assert queue.take() == 0
    queue.refund(Flow("b", "x"), 90.0)
    assert [queue.take() for _ in range(3)] == [2, 1, 3]


@given(ENTRIES, st.integers(0, 39))
def test_a_dropped_request_is_gone_alone(entries: list[tuple[Flow, float]], at: int) -> None:
    queue, at = filled(entries), at % len(entries)
    assert queue.drop(entries[at][0], at)
    assert not queue.drop(entries[at][0], at)
    assert sorted(queue.order()) == [item for item in range(len(entries)) if item != at]
    assert len(queue) == len(entries) - 1


def test_who_came_once_is_not_remembered_for_ever() -> None:
    queue = filled([(Flow("p", "stays"), 10.0)] * 2000)
    for n in range(600):
        queue.put(Flow(f"p{n}", "x"), 2000 + n, 10.0)
        queue.put(Flow("p", f"k{n}"), 3000 + n, 10.0)
        for _ in range(3):
            queue.take()
    assert len(queue.projects.times) + sum(len(keys.times) for keys in queue.keys.values()) < 150


@given(TOKENS, TOKENS, st.integers(1, 12), st.floats(0.5, 100))
def test_a_wait_lies_between_its_bounds(running: list[float], ahead: list[float], rows: int, pace: float) -> None:
    """Graham: never less than the work shared by all rows without the longest of each, never more than all shared."""
    wait, work = wait_seconds(running, ahead, rows, pace), sum(running) + sum(ahead)
    longest = max([0.0, *running, *ahead])
    assert (work - (rows - 1) * longest) / rows / pace - 1e-6 <= wait <= work / rows / pace + 1e-6
    assert wait >= 0
    if len(running) + len(ahead) < rows:
        assert wait == 0


@given(TOKENS, TOKENS, st.floats(1, 100), st.integers(1, 12))
def test_more_before_it_never_shortens_a_wait(running: list[float], ahead: list[float], more: float, rows: int) -> None:
    assert wait_seconds(running, [*ahead, more], rows, 2.0) >= wait_seconds(running, ahead, rows, 2.0) - 1e-9


@given(st.floats(0, 1e7), st.floats(0.1, 1e4))
def test_after_retry_after_the_wait_is_within_the_limit(wait: float, limit: float) -> None:
    seconds = retry_after(wait, limit)
    assert seconds >= 1
    assert min(wait, 86_400) - seconds <= limit + 1e-6
    assert seconds == 1 or min(wait, 86_400) - (seconds - 1) > limit - 1e-6


def test_a_pace_follows_what_is_seen() -> None:
    pace = Pace()
    assert pace.per_row(1) is None
    for _ in range(50):
        pace.saw(10, 1.0, 1)
    assert pace.per_row(1) == pytest.approx(10)
    for _ in range(600):
        pace.saw(2, 1.0, 1)
    assert pace.per_row(1) == pytest.approx(2, rel=0.05)
    assert pace.expected(200) == 200
    for _ in range(30):
        pace.ended(50, 200)
    assert pace.expected(200) == pytest.approx(50)


def test_a_pace_seen_with_few_rows_is_not_that_of_many() -> None:
    pace = Pace()
    pace.saw(120, 10.0, 1)
    assert pace.per_row(32) == pytest.approx(12 / 32**0.5)
    pace.saw(90, 10.0, 30)
    assert (pace.per_row(1), pace.per_row(16)) == (12, 9)
    assert pace.per_row(32) == pytest.approx(9 / 2**0.5)
    pace.saw(20, 10.0, 32)
    assert (pace.per_row(32), pace.per_row(64)) == (2, pytest.approx(2 / 2**0.5))


def waits(flood: bool) -> list[float]:
    """Waits of nine clients that each keep two requests of 64 tokens up, on 8 rows of 10 tokens/s; a tenth keeps 90."""
    queue, came, now = FairQueue[tuple[Flow, int]](), dict[tuple[Flow, int], float](), 0.0
    ends, found = list[tuple[float, int, Flow]](), list[float]()
    calm, number = [Flow(f"p{n % 3}", f"k{n}") for n in range(9)], 0

    def ask(flow: Flow) -> None:
        nonlocal number
        number += 1
        came[flow, number] = now
        queue.put(flow, (flow, number), 64.0)

    for flow in [Flow("flood", "f")] * 90 * flood + calm * 2:
        ask(flow)
    while len(found) < 600:
        while len(ends) < 8:
            flow, item = queue.take()
            if flow in calm:
                found.append(now - came[flow, item])
            heapq.heappush(ends, (now + 6.4, item, flow))
        now, _, flow = heapq.heappop(ends)
        ask(flow)
    return found[100:]


def test_a_flood_leaves_the_others_their_share() -> None:
    """1 flood, 9 others: their p95 wait stays within 3 times of alone."""
    alone, beside = (quantiles(waits(flood), n=20)[18] for flood in (False, True))
    assert 0 < beside <= 3 * alone
