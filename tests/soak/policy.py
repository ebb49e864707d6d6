"""A year's policies on a shorter scale: so many seconds stand for a day. Starts nothing."""

import json
from dataclasses import dataclass

DAYS = 240
"""Of policy time that a run goes through."""
SECONDS_OF_A_DAY = 86_400.0
PRUNE_SECONDS = 2.0


@dataclass(frozen=True, slots=True)
class Policy:
    """Horizons in days of policy time; `day` is the length of such a day in seconds."""

    day: float
    messages: float = 20.0
    """Kafka's retention of submissions, refusals and inferences."""
    artifacts: float = 40.0
    """Kafka's retention of events that name artifacts, and the time that superseded rows hold theirs."""
    dead_letters: float = 60.0
    inbox: float = 70.0
    requests: float = 20.0
    signals: float = 30.0
    waiting: float = 10.0
    """So long feedback waits for the answer it speaks of, which may have been pruned."""
    jobs: float = 40.0
    grace: float = 5.0
    roll: float = 5.0
    """After so long Kafka closes a segment; only closed ones are deleted."""
    slack: float = 30.0
    """Seconds for a timer that comes late, a look that takes its time, Kafka's own look for what is too old."""

    def seconds(self, days: float) -> float:
        """Days of policy time in real seconds."""
        return days * self.day

    def environment(self) -> dict[str, str]:
        """What the services are told."""

        def real(days: float) -> float:
            return self.seconds(days) / SECONDS_OF_A_DAY

        short = dict.fromkeys(SHORT, real(self.messages)) | dict.fromkeys(NAMING, real(self.artifacts))
        return {
            "NORIA_INBOX_DAYS": repr(real(self.inbox)),
            "NORIA_JOB_DAYS": repr(real(self.jobs)),
            "NORIA_ARTIFACT_DAYS": repr(real(self.artifacts)),
            "NORIA_ARTIFACT_GRACE_DAYS": repr(real(self.grace)),
            "NORIA_FEEDBACK_RETENTION_DAYS": repr(real(self.requests)),
            "NORIA_FEEDBACK_SIGNAL_DAYS": repr(real(self.signals)),
            "NORIA_FEEDBACK_DEADLINE_SECONDS": repr(self.seconds(self.waiting)),
            "NORIA_PRUNE_SECONDS": repr(PRUNE_SECONDS),
            "NORIA_TOPIC_RETENTION_DAYS": json.dumps({**short, "dead_letters": real(self.dead_letters)}),
        }


SHORT = (
    "upstream.record.submitted.v1",
    "ingestion.record.accepted.v1",
    "ingestion.record.refused.v1",
    "serving.inference.completed.v1",
    "feedback.signal.recorded.v1",
    "feedback.signal.refused.v1",
    "feedback.example.released.v1",
    "feedback.example.held.v1",
)
NAMING = (
    "prep.dataset.frozen.v1",
    "trainer.model.trained.v1",
    "evaluator.model.scored.v1",
    "registry.model.registered.v1",
    "registry.model.promoted.v1",
    "registry.model.rejected.v1",
)
