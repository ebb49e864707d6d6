"""The process manager on small programs in place of the stack's own: what dies comes back, and nothing stays behind."""

import os
import signal
import sys
import time
from collections.abc import Callable, Iterator
from pathlib import Path

import pytest

from compose.local import assets, orphans, stack, supervisor
from compose.local.settings import SERVICES, StackSettings
from compose.local.supervisor import Program
from tests.conftest import free_port

SLEEPER = "import time; print('up', flush=True); time.sleep(600)"
FAILING = "import time; time.sleep(1.2); print('no database', flush=True); raise SystemExit(1)"
PORTS = ("kafka", "kafka_controller", "triton_http", "triton_grpc", "triton_metrics", *SERVICES)


def until(check: Callable[[], bool], seconds: float = 20) -> None:
    deadline = time.monotonic() + seconds
    while not check():
        assert time.monotonic() < deadline
        time.sleep(0.05)


def pid(settings: StackSettings, name: str) -> int:
    return next((p.pid for p in supervisor.processes(settings.home) if p.name == name), 0)


def hold(monkeypatch: pytest.MonkeyPatch, code: str) -> None:
    programs = [Program(name, (sys.executable, "-c", code), 5) for name in ("kafka", "prep")]
    monkeypatch.setattr(stack, "programs", lambda every: programs)
    monkeypatch.setattr(stack, "PARTS", ("kafka", "prep"))


@pytest.fixture
def settings(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Iterator[StackSettings]:
    monkeypatch.setattr(assets, "make", lambda *_: None)
    ports = {f"{name}_port": free_port() for name in PORTS}
    found = StackSettings.model_validate({"home": tmp_path / "home", **ports})
    yield found
    stack.stop(found)
    assert orphans.of(found.home) == []


def test_second_start_changes_nothing_and_what_is_killed_comes_back(
    settings: StackSettings, monkeypatch: pytest.MonkeyPatch
) -> None:
    hold(monkeypatch, SLEEPER)
    assert stack.start(settings, print) is True
    until(lambda: pid(settings, "prep") > 0)
    first = pid(settings, "prep")
    assert stack.start(settings, print) is False
    assert pid(settings, "prep") == first
    os.kill(first, signal.SIGKILL)
    until(lambda: pid(settings, "prep") not in (0, first))
    assert stack.stop(settings) is True
    assert stack.stop(settings) is False


def test_stack_of_a_killed_manager_is_stopped_and_started_again(
    settings: StackSettings, monkeypatch: pytest.MonkeyPatch
) -> None:
    hold(monkeypatch, SLEEPER)
    stack.start(settings, print)
    # One that has not spoken yet when the manager dies ends at its broken pipe, and nothing is left to be ended.
    until(lambda: pid(settings, "prep") > 0 and "\nup" in stack.log_tail(settings, "prep"))
    orphan = pid(settings, "prep")
    os.kill(int(supervisor.server(settings.home).getPID()), signal.SIGKILL)
    until(lambda: not supervisor.alive(settings.home))
    said: list[str] = []
    assert stack.start(settings, said.append) is True
    assert orphan not in orphans.of(settings.home)
    assert any("killed process manager" in line for line in said)
    until(lambda: pid(settings, "prep") not in (0, orphan))


def test_part_that_dies_again_and_again_is_told_with_its_log(
    settings: StackSettings, monkeypatch: pytest.MonkeyPatch
) -> None:
    hold(monkeypatch, FAILING)
    stack.start(settings, print)
    with pytest.raises(stack.StackError, match="again and again") as caught:
        for _ in stack.wait_ready(settings, 60):
            pass
    assert "no database" in str(caught.value)
