"""Whether a model's engine lives, told from how far it is: life is progress. Pure."""

from dataclasses import dataclass


@dataclass(frozen=True, slots=True)
class Progress:
    """The engine's count of steps, and since when (monotonic seconds) it has stood still with work at hand."""

    steps: int
    since: float

    def stalled(self, now: float, seconds: float) -> bool:
        """Whether it has stood still for longer than `seconds`."""
        return now - self.since > seconds


def follow(before: Progress | None, steps: int, at_work: bool, now: float) -> Progress:
    """The progress after one more look. Without work at hand standing still is no fault."""
    return before if before is not None and before.steps == steps and at_work else Progress(steps, now)
