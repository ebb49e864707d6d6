"""What became of dead letters, which the console produces, and of events that Kafka refused, each by its service."""

from typing import ClassVar, Literal

from pydantic import Field

from contracts.envelope import Event


class LetterSettledV1(Event):
    """Somebody sent a dead letter's message again, or gave it up. The letter itself stays where it is."""

    TOPIC: ClassVar[str] = "console.letter.settled.v1"

    project: str = Field(description="The letter's project; empty where its value names none")
    letter: str = Field(description="The dead letter's id: its header noria-id")
    action: Literal["redriven", "discarded"]
    by: str = Field(description="Who did it")
    reason: str = Field(description="Why, in that person's words; may be empty")
    dead_letter_topic: str
    topic: str = Field(description="The topic that the message was on, and to which a redriven one went again")
    group: str = Field(description="The consumer group that gave the message up")

    @property
    def key(self) -> str:
        """All that became of one letter is in one partition."""
        return self.letter


class OutboxSettledV1(Event):
    """Somebody had an event sent again that Kafka had refused for good, or gave it up: then nobody will hear of it."""

    TOPIC: ClassVar[str] = "console.outbox.settled.v1"

    project: str = Field(description="The event's project; empty where its value names none")
    service: str = Field(description="The service in whose outbox the event stood")
    number: int = Field(description="The event's number in that outbox")
    action: Literal["retried", "discarded"]
    by: str = Field(description="Who did it")
    reason: str = Field(description="Why, in that person's words; may be empty")
    topic: str = Field(description="The topic that the event is for")
    event_key: str | None = Field(description="The event's key; null where it has none")
    event: str = Field(description="The event's ce_id; empty where it has none")
    refusal: str = Field(description="Why Kafka had refused it")

    @property
    def key(self) -> str:
        """All that became of one event is in one partition."""
        return f"{self.service}/{self.number}"
