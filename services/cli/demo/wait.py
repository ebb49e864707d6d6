"""Waits for a state of the stack with a deadline, and ends the wait early when a part has died. Knows no stage."""

import time
from collections.abc import Callable
from dataclasses import dataclass, field
from typing import TypeVar

from compose.local import stack, supervisor
from compose.local.settings import StackSettings
from services.cli.demo.board import DemoFailed
from services.cli.errors import Refused, Unreachable
from services.cli.health import dead_letters

T = TypeVar("T")
PAUSE = 0.5
GUARD = 10.0
NOT_YET = (404, 503)
"""HTTP's way to say that something is not there yet."""
AWAY = 60.0
"""Seconds a service may be away: the process manager starts it again."""


@dataclass
class Watch:
    """What is watched besides the awaited state: the end of all time, dead processes, new dead letters."""

    settings: StackSettings
    until: float
    letters_before: int | None = None
    guarded: float = field(default=0.0)

    def wait(self, what: str, check: Callable[[], T | None], seconds: float) -> T:
        """The first result of `check` that is not None.

        Raises:
            DemoFailed: the time is over, a part died for good, or messages became dead letters.
        """
        deadline = min(time.monotonic() + seconds, self.until)
        seen = time.monotonic()
        while True:
            try:
                found = check()
                seen = time.monotonic()
            except Unreachable as error:
                found = None
                if time.monotonic() - seen > AWAY:
                    raise DemoFailed(str(error)) from error
            except Refused as error:
                found = None
                if error.status not in NOT_YET:
                    raise
            if found is not None:
                return found
            self.guard()
            if time.monotonic() > deadline:
                raise DemoFailed(f"{what} did not come in time; `noria status` shows what waits\n{self.letters()}")
            time.sleep(PAUSE)

    def guard(self) -> None:
        """Looks for what can no longer go well, at most every GUARD seconds."""
        if time.monotonic() - self.guarded < GUARD:
            return
        self.guarded = time.monotonic()
        for process in supervisor.processes(self.settings.home):
            if process.state == "FATAL":
                raise DemoFailed(f"{process.name} ends again and again\n{stack.log_tail(self.settings, process.name)}")
        text = self.letters()
        if text:
            raise DemoFailed(text)

    def letters(self) -> str:
        """What is to be said of dead letters that came since the beginning; empty where none came."""
        from services.cli.dead_letter_reader import open_dead_letters
        from services.cli.kafka import run

        if self.letters_before is None or dead_letters() in (None, self.letters_before):
            return ""
        newest = run(open_dead_letters())[1] or {}
        return (
            f"a message became a dead letter: {newest.get('reason')}: {newest.get('detail')} "
            f"({newest.get('topic')}, partition {newest.get('partition')}, offset {newest.get('offset')}); see `noria dlq list`"
        )

    def log(self, service: str) -> str:
        """Where a service's log lies."""
        return f"log: {self.settings.home / 'logs' / f'{service}.log'}"
