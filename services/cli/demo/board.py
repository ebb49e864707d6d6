"""What the demo shows while it runs: its stages, their times and what each says. Draws nothing."""

import time
from collections.abc import Callable, Generator
from contextlib import contextmanager
from dataclasses import dataclass, field
from typing import Literal

State = Literal["waiting", "running", "done", "failed"]


class DemoFailed(Exception):
    """The loop did not close; the message says which stage, why, and where to look."""


@dataclass
class Stage:
    """One stage: what it says now, and when it began and ended (seconds of the monotonic clock)."""

    title: str
    state: State = "waiting"
    says: str = ""
    share: float | None = None
    began: float | None = None
    ended: float | None = None

    @property
    def seconds(self) -> float:
        """How long it has taken so far."""
        return 0.0 if self.began is None else (self.ended or time.monotonic()) - self.began

    def say(self, text: str, share: float | None = None) -> None:
        """Tell where the stage stands; `share` from 0 to 1 where that is known."""
        self.says, self.share = text, share


@dataclass
class Board:
    """All stages in order; `changed` is called when one begins or ends."""

    stages: list[Stage] = field(default_factory=list[Stage])
    changed: Callable[[Stage], None] = lambda stage: None

    def plan(self, *titles: str) -> None:
        """Announce stages that will come."""
        self.stages += [Stage(title) for title in titles]

    @contextmanager
    def stage(self, title: str) -> Generator[Stage]:
        """Run a stage: it is done at the end of the block, failed when something is raised in it."""
        waiting = (s for s in self.stages if s.title == title and s.state == "waiting")
        stage = next(waiting, None)
        if stage is None:
            stage = Stage(title)
            self.stages.append(stage)
        stage.state, stage.began = "running", time.monotonic()
        self.changed(stage)
        try:
            yield stage
        except BaseException:
            stage.state, stage.ended = "failed", time.monotonic()
            self.changed(stage)
            raise
        stage.state, stage.ended, stage.share = "done", time.monotonic(), None
        self.changed(stage)
