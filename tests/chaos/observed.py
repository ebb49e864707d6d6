"""What a stack was told, what it said and what it holds, as plain data. Reads nothing: services know nothing of it."""

import json
from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass, field
from functools import cached_property
from typing import Any, Literal

Identity = tuple[str, str]
"""(ce_source, ce_id)."""
Place = tuple[str, int, int]
"""(topic, partition, offset)."""
POISON = "chaos-poison"
"""Header of a message that is malformed on purpose; the model takes nobody's word for what malformed is."""

What = Literal["record", "upload", "answer", "feedback", "promote"]
Kind = Literal[
    "lost", "doubled", "out_of_order", "without_cause", "bad_digest", "offset_behind", "outbox_stuck", "stuck"
]
KINDS: tuple[Kind, ...] = (
    "lost", "doubled", "out_of_order", "without_cause", "bad_digest", "offset_behind", "outbox_stuck", "stuck",
)  # fmt: skip


@dataclass(frozen=True, slots=True)
class Finding:
    """Something that a promise forbids: its kind, where, and what in words."""

    kind: Kind
    where: str
    what: str


@dataclass(frozen=True)
class Message:
    """A record of a topic."""

    topic: str
    partition: int
    offset: int
    timestamp: int
    key: bytes | None
    value: bytes | None
    headers: Mapping[str, bytes | None]

    @property
    def place(self) -> Place:
        """(topic, partition, offset)."""
        return self.topic, self.partition, self.offset

    @property
    def poison(self) -> bool:
        """Whether it was made malformed."""
        return POISON in self.headers

    @cached_property
    def identity(self) -> Identity:
        """(ce_source, ce_id); empty text where there is none."""
        return self._text("ce_source"), self._text("ce_id")

    @property
    def taken_as(self) -> Identity:
        """Its identity in an inbox: a malformed message goes by its place."""
        place = f"kafka:{self.topic}/{self.partition}/{self.offset}/{self.timestamp}"
        return (place, "") if self.poison else self.identity

    @cached_property
    def cause(self) -> str:
        """The ce_id of what caused it; empty where nothing is said."""
        return self._text("ce_causationid")

    @cached_property
    def body(self) -> dict[str, Any]:
        """The event's data."""
        return json.loads(self.value or b"{}")

    def _text(self, name: str) -> str:
        return (self.headers.get(name) or b"").decode("utf-8", "replace")


@dataclass(frozen=True, slots=True)
class Operation:
    """Something asked for from outside. `acknowledged`: it was confirmed, so that it may not be lost."""

    what: What
    id: str
    acknowledged: bool


@dataclass(frozen=True)
class Observed:
    """A stack at rest. Rows of tables are dictionaries by column."""

    operations: Sequence[Operation] = ()
    topics: Mapping[str, Sequence[Message]] = field(default_factory=dict[str, Sequence[Message]])
    consumers: Mapping[str, Sequence[str]] = field(default_factory=dict[str, Sequence[str]])
    """Topic -> consumer groups."""
    inbox: Mapping[str, frozenset[Identity]] = field(default_factory=dict[str, frozenset[Identity]])
    committed: Mapping[tuple[str, str, int], int] = field(default_factory=dict[tuple[str, str, int], int])
    """(group, topic, partition) -> committed offset."""
    outbox: Sequence[Mapping[str, Any]] = ()
    parked: Sequence[Mapping[str, Any]] = ()
    jobs: Sequence[Mapping[str, Any]] = ()
    records: Sequence[Mapping[str, Any]] = ()
    """Prep's records: project, record_id, revision, record (JSON text)."""
    transitions: Sequence[Mapping[str, Any]] = ()
    """The registry's history in order: name, version, after, cause, reason."""
    answering: Mapping[str, int] = field(default_factory=dict[str, int])
    """Project -> the version that the gateway answers with."""
    artifacts: Mapping[str, tuple[str, int]] = field(default_factory=dict[str, tuple[str, int]])
    """Digest by name -> (digest of what lies there, bytes)."""

    def first(self, topic: str) -> list[Message]:
        """The topic's valid messages, each identity once, in the order of partition and offset."""
        seen: set[Identity] = set()
        found: list[Message] = []
        for message in self.topics.get(topic, ()):
            if not message.poison and message.identity not in seen:
                seen.add(message.identity)
                found.append(message)
        return found

    def events(self, *topics: str) -> Iterator[Message]:
        """First occurrences in several topics."""
        for topic in topics:
            yield from self.first(topic)
