"""What feedback can be told."""

from datetime import timedelta
from typing import ClassVar

from pydantic import Field

from services.chassis.settings import Settings


class FeedbackSettings(Settings):
    """Settings of feedback: NORIA_FEEDBACK_... over NORIA_..."""

    SERVICE: ClassVar[str] = "feedback"

    port: int = 8086
    deadline_seconds: float = Field(default=600.0, gt=0, description="Feedback waits so long for its request's record")
    retention_days: float = Field(default=30.0, gt=0, description="A request can be spoken of for so long")
    signal_days: float = Field(default=90.0, gt=0, description="Signals that are settled are listed for so long")

    @property
    def deadline(self) -> timedelta:
        """How long feedback waits for its request."""
        return timedelta(seconds=self.deadline_seconds)

    @property
    def retention(self) -> timedelta:
        """How long requests are kept."""
        return timedelta(days=self.retention_days)

    @property
    def signal_retention(self) -> timedelta:
        """How long settled signals are kept: at least as long as their request, so that none counts twice."""
        return timedelta(days=max(self.signal_days, self.retention_days))
