"""Watches every part of a stack and measures how long each took to work again after a fault. Causes none."""

import threading
import time
from collections import defaultdict
from collections.abc import Mapping
from dataclasses import dataclass
from statistics import median

import httpx

from compose.local import ports, stack
from compose.local.settings import SERVICES
from tests.chaos.system import SystemUnderTest

PAUSE = 0.2
ALL = "all"
"""Stands for every part: a fault of Kafka or the database is over when all are ready again."""


@dataclass(slots=True)
class Outage:
    """A fault that is not over yet. `pid` is the process that must be another one now; 0: any."""

    fault: str
    part: str
    pid: int
    since: float
    was_down: bool


class Watch:
    """A thread that looks at every part; `seconds` holds the recovery times by fault."""

    def __init__(self, system: SystemUnderTest) -> None:
        self.seconds: dict[str, list[float]] = defaultdict(list)
        self.counts: dict[str, int] = defaultdict(int)
        self._system = system
        self._outages: list[Outage] = []
        self._lock = threading.Lock()
        self._over = threading.Event()
        self._thread = threading.Thread(target=self._look, daemon=True)

    def start(self) -> None:
        """Begins."""
        self._thread.start()

    def stop(self) -> None:
        """Ends."""
        self._over.set()
        self._thread.join()

    def note_fault(self, fault: str, part: str, pid: int = 0, *, down: bool = True) -> None:
        """A fault was caused now: it is over once the part (as another process than `pid`) is ready.

        With `down` it must first have been seen not ready, unless a new process tells that it was.
        """
        with self._lock:
            self.counts[fault] += 1
            self._outages.append(Outage(fault, part, pid, time.monotonic(), not down))

    def open(self) -> int:
        """How many faults are not over."""
        with self._lock:
            return len(self._outages)

    def describe(self) -> list[str]:
        """What is not over."""
        with self._lock:
            return [f"{w.fault} of {w.part} since {time.monotonic() - w.since:.0f} s" for w in self._outages]

    def all_ready(self) -> bool:
        """Whether every part is ready now."""
        return all(self._ready().values())

    def _look(self) -> None:
        while not self._over.wait(PAUSE):
            if not self.open():
                continue
            ready, pids = self._ready(), self._system.pids()
            now = time.monotonic()
            with self._lock:
                self._outages = [w for w in self._outages if not self._healed(w, ready, pids, now)]

    def _healed(self, outage: Outage, ready: Mapping[str, bool], pids: Mapping[str, int], now: float) -> bool:
        well = all(ready.values()) if outage.part == ALL else ready[outage.part]
        fresh = outage.pid and pids.get(outage.part, outage.pid) != outage.pid
        outage.was_down |= not well or bool(fresh)
        gone_long = now - outage.since > 3.0  # a fault that nobody noticed is over too
        if well and (outage.was_down or gone_long):
            self.seconds[outage.fault].append(now - outage.since)
            return True
        return False

    def _ready(self) -> dict[str, bool]:
        settings = self._system.settings
        with httpx.Client(timeout=2) as client:
            found = {name: _answers(client, f"{settings.url(name)}/health/ready") for name in SERVICES}
            found["triton"] = _answers(client, f"{settings.url('triton_http')}/v2/health/live")
        found["kafka"] = ports.listening(settings.host, settings.kafka_port)
        return {name: found[name] for name in stack.PARTS}


def _answers(client: httpx.Client, url: str) -> bool:
    try:
        return client.get(url).status_code == 200
    except httpx.HTTPError:
        return False


def table(watch: Watch) -> list[tuple[str, int, str, str]]:
    """(fault, how often, median seconds, worst seconds) by fault."""
    rows: list[tuple[str, int, str, str]] = []
    for fault, count in sorted(watch.counts.items()):
        times = watch.seconds[fault]
        middle, worst = (f"{median(times):.1f}", f"{max(times):.1f}") if times else ("-", "-")
        rows.append((fault, count, middle, worst))
    return rows
