"""Life is progress: overload is no death, silence and standing still with work at hand are."""

import asyncio
import time
from pathlib import Path
from typing import Any

import pytest
from hypothesis import given
from hypothesis import strategies as st

from services.serving import model_loading
from services.serving.domain.liveness import follow
from services.serving.domain.reconcile import Loaded
from services.serving.runtime import Runtime
from services.serving.settings import ServingSettings
from services.serving.triton import client
from services.serving.triton.status import EngineStatus

IDLE = EngineStatus(5, 0, 8, 0, 0.0, 0.0, 0.0, 0, 1000)
FULL = EngineStatus(5, 8, 8, 90, 60.0, 160.0, 0.0, 9000, 0)
LOOKS = st.lists(st.tuples(st.integers(0, 3), st.booleans(), st.floats(0.1, 100)), min_size=1, max_size=30)


@given(LOOKS)
def test_only_standing_still_with_work_at_hand_is_a_stall(looks: list[tuple[int, bool, float]]) -> None:
    """Against the definition: the time since the last look at which it had moved or had nothing to do."""
    progress, steps, now, moved = None, 0, 0.0, 0.0
    for made, at_work, seconds in looks:
        steps, now = steps + made, now + seconds
        if progress is None or made or not at_work:
            moved = now
        progress = follow(progress, steps, at_work, now)
        assert progress.stalled(now, 60) == (now - moved > 60)


class Engine:
    """What a fake Triton says of one model."""

    def __init__(self, tmp_path: Path, monkeypatch: pytest.MonkeyPatch, **settings: float) -> None:
        self.status: EngineStatus | Exception | None = IDLE
        self.probe: Exception | None = None
        self.probes = 0
        self.runtime = Runtime(ServingSettings(home=tmp_path).model_copy(update=settings), up=True)
        self.runtime.loaded, self.runtime.generations = {"m": Loaded()}, {"m": "m.1"}

        async def true(*_: Any, **__: Any) -> bool:
            return True

        async def status(*_: Any) -> EngineStatus | None:
            if isinstance(self.status, Exception):
                raise self.status
            return self.status

        async def probe(*_: Any, **__: Any) -> None:
            self.probes += 1
            if self.probe:
                raise self.probe

        for name, fake in (("live", true), ("ready", true), ("status", status), ("probe", probe)):
            monkeypatch.setattr(client, name, fake)
        monkeypatch.setattr(model_loading.layout, "read_adapters", lambda *_: {})

    def healthy(self, suspected: bool = False) -> bool:
        if suspected:
            self.runtime.suspects.add("m")
        nowhere: Any = None
        asyncio.run(model_loading.look(self.runtime, nowhere))
        return self.runtime.loaded["m"].healthy


def test_a_full_engine_is_never_probed_and_lives_while_it_moves(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    engine = Engine(tmp_path, monkeypatch, stall_seconds=0.05)
    engine.probe = client.Unavailable("waits behind 90 users")
    for steps in range(4):
        engine.status = EngineStatus(steps, 8, 8, 90, 60.0, 160.0, 0.0, 9000, 0)
        assert engine.healthy(suspected=True)
        time.sleep(0.06)
    assert (engine.probes, engine.runtime.rows("m"), engine.runtime.per_row("m")) == (0, 8, 20.0)


def test_an_engine_that_stands_still_with_work_is_dead(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    engine = Engine(tmp_path, monkeypatch, stall_seconds=0.05)
    engine.status = FULL
    assert engine.healthy()
    time.sleep(0.06)
    assert not engine.healthy()


@pytest.mark.parametrize("fault", [client.Unavailable("silent"), client.ModelNotReady("Stub process is not healthy")])
def test_an_engine_that_does_not_answer_is_dead_without_any_suspicion(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, fault: Exception
) -> None:
    engine = Engine(tmp_path, monkeypatch)
    engine.status = fault
    assert not engine.healthy()


def test_a_token_that_came_meanwhile_is_an_answer(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    engine = Engine(tmp_path, monkeypatch)
    engine.status, engine.runtime.heard["m"] = client.Unavailable("late"), time.perf_counter() - 1
    assert engine.healthy()
    engine.runtime.heard["m"] -= 10
    assert not engine.healthy()


@pytest.mark.parametrize("status", [IDLE, None], ids=["idle", "does not tell"])
def test_a_suspect_without_work_is_probed(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, status: EngineStatus | None
) -> None:
    engine = Engine(tmp_path, monkeypatch)
    engine.status, engine.probe = status, client.Failed("boom")
    assert engine.healthy()
    assert not engine.healthy(suspected=True)
    assert engine.probes == 1
