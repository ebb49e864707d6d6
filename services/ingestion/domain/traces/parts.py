"""Parts of a call: what one export of log events told of it, and how parts are put together. Knows no database.

An instrumentation that sends a message an event tells the question when it is asked and the answer seconds later, so that
an exporter's timer parts them.
"""

import hmac
import json
import re
import secrets
from collections import Counter
from collections.abc import Callable, Iterable, Mapping, Sequence
from dataclasses import dataclass, field, replace
from hashlib import sha256
from typing import Any

from contracts.canonical import digest
from contracts.records import RecordInvalid
from services.chassis.privacy.redaction import Redactor
from services.ingestion.domain.policy import CONSENT, Policy, check_consent, names_of, pseudonym
from services.ingestion.domain.traces import genai, names
from services.ingestion.domain.traces.records import identifies
from services.ingestion.domain.traces.spans import Attributes, Span

ASKS = frozenset({*names.MESSAGE_EVENTS, names.PROMPT_EVENT})
ANSWERS = frozenset({names.CHOICE, names.COMPLETION_EVENT})
ABOUT = frozenset({*names.USERS, *names.CONVERSATIONS, names.SERVICE})
SAID = frozenset({"role", "content", "name", "tool_calls", "tool_call_id", "id", "message"}
                 | {names.INDEX, names.BODY, names.PROMPT_JSON, names.COMPLETION_JSON})  # fmt: skip
"""Of events' fields, and ABOUT of resources' attributes: what a record is made of. Nothing else is kept."""
CALL_BYTES = 8 << 20
"""Of a call's parts as texts; a record has less."""
KEY = secrets.token_bytes(32)
"""Of this process alone and never written, so that nobody finds a value by its code."""
_PLACEHOLDER = re.compile(r"<([A-Z_]+)_\d+>")
Event = tuple[int, str, Attributes]
"""(nanoseconds since 1970, name, what it says)."""


@dataclass(frozen=True, slots=True)
class Part:
    """What an export told of a call. A refused one has nothing of it but the reason, so that the others make no record."""

    resource: Attributes
    events: tuple[Event, ...] = ()
    items: int = 1
    """Log records that it stands for."""
    refused: tuple[str, str] | None = None
    """(code, message)."""
    hidden: Mapping[str, str] = field(default_factory=dict[str, str])
    """Placeholder -> a code of what it stands for, the same for the same value as long as the process lives."""

    @property
    def answers(self) -> bool:
        """Whether it tells of an answer."""
        return any(name in ANSWERS for _, name, _ in self.events)

    @property
    def asks(self) -> bool:
        """Whether it tells of what was asked."""
        return any(name in ASKS for _, name, _ in self.events)


def is_part(span: Span) -> bool:
    """Whether log events may be a part of a call: they tell contents, a message an event, and name their span."""
    return identifies(span) and all(name != names.DETAILS for name, _ in span.events) and any(map(_tells, span.events))


def _tells(event: tuple[str, Attributes]) -> bool:
    try:
        return event[0] in ASKS | ANSWERS and genai.says(*event)
    except RecordInvalid:  # told, and cut off: the call is refused by that
        return True


def part_of(span: Span) -> Part:
    """What of a span's events is kept."""
    tags = {name: value for name, value in span.resource.items() if name in ABOUT or name.startswith(names.TAG)}
    times = span.times or (0,) * len(span.events)
    events = tuple(
        (at, name, {field: value for field, value in said.items() if field in SAID})
        for at, (name, said) in zip(times, span.events, strict=True)
        if name in ASKS | ANSWERS
    )
    return Part(tags, events, span.items)


def let_in(part: Part, project: str, policy: Policy) -> Part:
    """The part as it may be kept: redacted, or refused without its contents, as the project's policy has it of records."""
    try:
        check_consent(str(part.resource.get(names.TAG + CONSENT, "")), policy)
        return part if policy.pii == "keep" else _redacted(part, project, policy)
    except RecordInvalid as error:
        return Part({}, items=part.items, refused=(error.code, str(error)))


def _redacted(part: Part, project: str, policy: Policy) -> Part:
    redactor = Redactor()
    people = {name: value for name in names.USERS if isinstance(value := part.resource.get(name), str)}
    known = {name: pseudonym(project, value) for name, value in people.items() if Redactor().text(value) != value}
    events = tuple((at, name, redactor.value(said)) for at, name, said in part.events)
    resource: dict[str, Any] = redactor.value({name: v for name, v in part.resource.items() if name not in known})
    if policy.pii == "drop" and redactor.kinds:
        raise RecordInvalid(
            "holds_pii", f"the call holds {names_of(redactor)}, and the project's ingest.pii drops such"
        )
    hidden = {placeholder: _code(*value) for value, placeholder in redactor.placeholders.items()}
    return replace(part, resource=resource | known, events=events, hidden=hidden)


def _code(kind: str, value: str) -> str:
    return hmac.new(KEY, f"{kind} {value}".encode(errors="surrogatepass"), sha256).hexdigest()[:32]


def is_whole(parts: Iterable[Part]) -> bool:
    """Whether something can be said of the call: question and answer are there, or a part of it was refused."""
    found = list(parts)
    return any(p.refused for p in found) or (any(p.asks for p in found) and any(p.answers for p in found))


def joined(trace_id: str, span_id: str, parts: Sequence[Part]) -> Span:
    """The call of its parts, which stand in the order they came in: its events by their times.

    Raises:
        RecordInvalid: that of a refused part, or `too_large`.
    """
    refused = next((part.refused for part in parts if part.refused), None)
    if refused:
        raise RecordInvalid(*refused)
    if sum(len(as_text(part)) for part in parts) > CALL_BYTES:
        raise RecordInvalid("too_large", f"the call's log events are longer than {CALL_BYTES} bytes together")
    numbered = _numbered(parts)
    resource = {name: value for part in numbered for name, value in part.resource.items()}
    events = sorted(_once(numbered), key=lambda event: event[0])
    told = tuple((name, said) for _, name, said in events)
    return Span(trace_id, span_id, {}, resource, told, items=sum(part.items for part in parts))


def _numbered(parts: Sequence[Part]) -> list[Part]:
    """The parts with placeholders of the whole call: each was redacted by itself, with numbers from 1.

    The same value has the same number where one process redacted both, else another one: never one of another value.
    """
    numbers: dict[tuple[str, str], int] = {}
    counts: Counter[str] = Counter()

    def renamed(part: Part, found: re.Match[str]) -> str:
        if found[0] not in part.hidden:
            return found[0]
        value = (found[1], part.hidden[found[0]])
        if value not in numbers:
            counts[found[1]] += 1
            numbers[value] = counts[found[1]]
        return f"<{found[1]}_{numbers[value]}>"

    def whole(part: Part) -> Part:
        return from_text(_PLACEHOLDER.sub(lambda found: renamed(part, found), as_text(replace(part, hidden={}))))

    return [whole(part) if part.hidden else part for part in parts]


def _once(parts: Sequence[Part]) -> list[Event]:
    """The events of all parts; one that stands in two exports once, and as often as in that where it stands most."""
    found: list[Event] = []
    known: Counter[str] = Counter()
    for part in parts:
        own: Counter[str] = Counter()
        for event in part.events:
            text = json.dumps(event, sort_keys=True)
            own[text] += 1
            if own[text] > known[text]:
                found.append(event)
        known |= own
    return found


def as_text(part: Part) -> str:
    """The part as JSON."""
    return json.dumps([part.events, part.resource, part.items, part.refused, part.hidden])


def identity(part: Part) -> str:
    """The same for what came again, though another process redacted it."""
    return digest(json.dumps([part.events, part.resource, part.items, part.refused], sort_keys=True))


def from_text(text: str) -> Part:
    """The part of a JSON text."""
    events, resource, items, refused, hidden = json.loads(text)
    return Part(resource, tuple(map(_event, events)), items, tuple(refused) if refused else None, hidden)


_event: Callable[[list[Any]], Any] = tuple
