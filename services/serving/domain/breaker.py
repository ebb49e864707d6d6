"""A circuit breaker as a value: closed, open for a while, then one request tries. Knows no clock and nobody who fails.

Source: Nygard, Release It!, 2nd ed., "Circuit Breaker".
"""

from dataclasses import dataclass, replace


@dataclass(frozen=True, slots=True)
class Circuit:
    """Failures in a row, and until when (seconds of any one clock) nobody is let through; 0: it is closed."""

    failures: int = 0
    open_until: float = 0.0

    @property
    def is_closed(self) -> bool:
        """Whether everybody is let through."""
        return not self.open_until

    def enter(self, now: float, pause: float) -> "Circuit | None":
        """The circuit behind a request that is let through, None where it is not.

        Of an open one whose pause is over one request tries; the next may once that has failed or said nothing for a pause.
        """
        if self.is_closed:
            return self
        return None if now < self.open_until else replace(self, open_until=now + pause)

    def failed(self, now: float, most: int, pause: float) -> "Circuit":
        """After a request that failed: open from `most` failures in a row on."""
        failures = self.failures + 1
        opened = failures >= most or not self.is_closed
        return Circuit(failures, now + pause if opened else 0.0)

    def succeeded(self) -> "Circuit":
        """After an answer."""
        return Circuit()
