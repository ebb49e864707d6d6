"""Counts what an engine does and how fast, for whoever asks how it fares; it knows neither rows nor queues."""

from dataclasses import dataclass, field

BUSY_SECONDS = 5.0  # of work after which an older measurement weighs less than a third


@dataclass(slots=True)
class Rate:
    """Tokens a second of work, the latest seconds of work weighing most; idle time does not count."""

    tokens: float = 0.0
    seconds: float = 0.0

    def add(self, tokens: int, seconds: float) -> None:
        """Takes in that `tokens` took `seconds`."""
        kept = max(0.0, 1 - seconds / BUSY_SECONDS)
        self.tokens, self.seconds = self.tokens * kept + tokens, self.seconds * kept + seconds

    @property
    def a_second(self) -> float:
        """Tokens a second, 0 where nothing was measured yet."""
        return self.tokens / self.seconds if self.seconds else 0.0


@dataclass(slots=True)
class Meter:
    """Passes of the model since it was loaded, and the rates of decoding (all rows together) and of reading prompts."""

    steps: int = 0
    decoded: Rate = field(default_factory=Rate)
    read: Rate = field(default_factory=Rate)

    def passed(self, seconds: float, rows: int, read: int) -> None:
        """Takes in a pass that gave each of so many rows a token and read so many tokens of a prompt."""
        self.steps += 1
        if rows:
            self.decoded.add(rows, seconds)
        if read:
            self.read.add(read, seconds)
