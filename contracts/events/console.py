"""What the console produces: what became of dead letters."""

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
