"""The catalogue of topics: who produces and consumes, how many partitions, what is kept. Opens no connection."""

from dataclasses import dataclass
from datetime import timedelta

from contracts.envelope import Event
from contracts.events.console import LetterSettledV1, OutboxSettledV1
from contracts.events.evaluator import EvaluationFailedV1, ModelScoredV1
from contracts.events.feedback import (
    ExampleHeldV1,
    ExampleRejectedV1,
    ExampleReleasedV1,
    SignalRecordedV1,
    SignalRefusedV1,
)
from contracts.events.ingestion import RecordAcceptedV1, RecordRefusedV1
from contracts.events.prep import DatasetAnnotatedV1, DatasetFrozenV1
from contracts.events.registry import (
    EvaluationRequestedV1,
    ModelPromotedV1,
    ModelRegisteredV1,
    ModelRejectedV1,
    ProjectDefinedV1,
)
from contracts.events.serving import DeploymentChangedV1, InferenceCompletedV1
from contracts.events.trainer import ModelTrainedV1, RunFailedV1, RunProgressedV1
from contracts.events.upstream import RecordSubmittedV1

FOR_EVER = timedelta(0)
"""Retention without end."""


@dataclass(frozen=True, slots=True)
class Topic:
    """One topic and its event. `consumers` are groups '<service>.<purpose>'; 'downstream' stands for outsiders."""

    event: type[Event]
    producers: tuple[str, ...]
    consumers: tuple[str, ...]
    partitions: int = 1
    retention: timedelta = FOR_EVER
    compacted: bool = False

    @property
    def name(self) -> str:
        """The topic's name on Kafka."""
        return self.event.TOPIC


_MONTH = timedelta(days=30)
SERVICES = ("ingestion", "prep", "trainer", "evaluator", "registry", "serving", "feedback")
"""Each may have events in its outbox that Kafka refuses."""

TOPICS: tuple[Topic, ...] = (
    Topic(RecordSubmittedV1, ("upstream", "ingestion"), ("ingestion.main",), partitions=3, retention=_MONTH),
    Topic(RecordAcceptedV1, ("ingestion",), ("prep.main",), partitions=3),
    Topic(RecordRefusedV1, ("ingestion",), ("downstream",), partitions=3, retention=_MONTH),
    Topic(DatasetFrozenV1, ("prep",), ("trainer.main",)),
    Topic(DatasetAnnotatedV1, ("prep",), ("downstream",)),
    Topic(RunProgressedV1, ("trainer",), ("downstream",), retention=timedelta(days=7)),
    Topic(ModelTrainedV1, ("trainer",), ("evaluator.main", "registry.main")),
    Topic(RunFailedV1, ("trainer",), ("downstream",)),
    Topic(ModelScoredV1, ("evaluator",), ("registry.main",)),
    Topic(EvaluationFailedV1, ("evaluator",), ("registry.main",)),
    Topic(
        ProjectDefinedV1,
        ("registry",),
        ("ingestion.main", "prep.main", "trainer.main", "evaluator.main", "serving.main", "feedback.main"),
        compacted=True,
    ),
    Topic(ModelRegisteredV1, ("registry",), ("downstream",)),
    Topic(ModelPromotedV1, ("registry",), ("serving.main", "trainer.main", "evaluator.main", "downstream")),
    Topic(ModelRejectedV1, ("registry",), ("downstream",)),
    Topic(EvaluationRequestedV1, ("registry",), ("evaluator.main",)),
    Topic(DeploymentChangedV1, ("serving",), ("registry.main", "downstream")),
    Topic(InferenceCompletedV1, ("serving",), ("feedback.main", "serving.main"), partitions=3, retention=_MONTH),
    Topic(SignalRecordedV1, ("feedback",), ("ingestion.main",), partitions=3),
    Topic(SignalRefusedV1, ("feedback",), ("downstream",), partitions=3, retention=_MONTH),
    Topic(ExampleReleasedV1, ("feedback",), ("ingestion.main",), partitions=3),
    Topic(ExampleHeldV1, ("feedback",), ("downstream",), partitions=3),
    Topic(ExampleRejectedV1, ("feedback",), ("downstream",), partitions=3),
    Topic(LetterSettledV1, ("console",), ("downstream",)),
    Topic(OutboxSettledV1, SERVICES, ("downstream",)),
)

BY_NAME: dict[str, Topic] = {topic.name: topic for topic in TOPICS}


def consumed_by(service: str) -> tuple[Topic, ...]:
    """The topics that `service` consumes."""
    return tuple(t for t in TOPICS if any(group.split(".")[0] == service for group in t.consumers))


def produced_by(service: str) -> tuple[Topic, ...]:
    """The topics that `service` produces."""
    return tuple(t for t in TOPICS if service in t.producers)


def dead_letter_topic(topic: str, group: str) -> str:
    """Where `group` puts what it cannot read from `topic`."""
    return f"{topic}.{group}.dlq"


def dead_letter_topics() -> tuple[str, ...]:
    """All dead-letter topics of the catalogue."""
    groups = ((t.name, g) for t in TOPICS for g in t.consumers if g != "downstream")
    return tuple(dead_letter_topic(name, group) for name, group in groups)
