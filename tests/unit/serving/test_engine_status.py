"""An engine tells how it fares while it is busy."""

import json
import time
from pathlib import Path

import pytest

from services.serving.triton.backend.meter import Rate
from services.serving.triton.status import EngineStatus, read_status
from tests.integration.tiny_model import make_base
from tests.unit.serving.engines import ask, engine, prompt


@pytest.fixture(scope="module")
def base(tmp_path_factory: pytest.TempPathFactory) -> Path:
    return make_base(tmp_path_factory.mktemp("status") / "base")


def test_a_busy_engine_tells_rows_queue_and_progress(base: Path) -> None:
    with engine(base, max_num_seqs=2) as busy:
        heard = [ask(busy, prompt(40, seed), 100_000) for seed in range(5)]
        for first in heard[:2]:
            first.deltas.get(timeout=30)
        began = time.perf_counter()
        status = read_status(json.dumps(busy.status()))
        assert status is not None
        assert time.perf_counter() - began < 0.5
        assert (status.rows, status.capacity, status.queue, status.queued_tokens) == (2, 2, 3, 120)
        assert status.oldest_wait > 0
        deadline = time.monotonic() + 20
        while busy.status()["steps"] == status.steps:
            assert time.monotonic() < deadline
        assert busy.status()["tokens_per_second"] > 0
        assert busy.status()["prefill_tokens_per_second"] > 0
        for one in heard:
            one.cancelled = True
        assert [one.whole()[1].finish_reason for one in heard] == ["cancelled"] * 5
        assert (busy.status()["rows"], busy.status()["queue"]) == (0, 0)


def test_a_rate_follows_the_latest_seconds_of_work() -> None:
    rate = Rate()
    assert rate.a_second == 0
    for tokens in [10] * 100 + [20] * 200:
        rate.add(tokens, 0.1)
    assert 195 < rate.a_second <= 200


def test_what_is_no_status_is_none() -> None:
    told = EngineStatus(1, 2, 3, 4, 5.0, 6.0, 7.0, 8, 9)
    assert read_status(json.dumps({name: getattr(told, name) for name in EngineStatus.__slots__} | {"more": 1})) == told
    for text in ("", "hello", "{}", "[]", "3"):
        assert read_status(text) is None
