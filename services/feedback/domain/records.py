"""A correction or comparison on a request as a training record, without the project's prompt: it is applied by name."""

from collections.abc import Mapping
from dataclasses import dataclass
from hashlib import sha256
from typing import Any

from contracts.records import Record, RecordInvalid, parse_record
from contracts.turns import conversation
from contracts.types import ModelRef
from services.feedback.domain.signals import Signal

MAX_RECORD_BYTES = 900_000
"""Room for the rest of the event within a Kafka message of one megabyte."""


@dataclass(frozen=True, slots=True)
class Request:
    """A request that the gateway answered, as the client sent it: chat `messages` or a completion's `prompt`."""

    request_id: str
    project: str
    model: ModelRef
    messages: tuple[Mapping[str, Any], ...] | None
    prompt: str | None
    output: str
    prompt_variables: Mapping[str, str] | None = None
    teacher: str | None = None
    """The model of the project's teacher that answered; None: `model` did."""
    conversation: str | None = None
    """What the client called the conversation that it belongs to, in its `metadata`."""


def record_id(signal: Signal) -> str | None:
    """Identity of the record; None where there is no record.

    A later correction of an answer, or another verdict on a pair of answers, is the record's new revision.
    """
    match signal.kind:
        case "correction":
            return f"feedback-{signal.request_id}"
        case "comparison":
            pair = "\x00".join(sorted((signal.chosen or "", signal.rejected or "")))  # no text of a signal holds a NUL
            return f"comparison-{signal.request_id}-{sha256(pair.encode()).hexdigest()[:8]}"
        case _:
            return None


def as_record(signal: Signal, request: Request) -> Record | None:
    """The record of a correction (`messages`) or comparison (`prompt`, `chosen`, `rejected`); None for other kinds.

    Raises:
        RecordInvalid: the request's turns fit no record format, or the record is too large.
    """
    match signal.kind:
        case "correction":
            raw: dict[str, Any] = {"messages": [*request_turns(request), answer_turn(signal.correction)]}
        case "comparison":
            raw = {
                "prompt": request_turns(request),
                "chosen": [answer_turn(signal.chosen)],
                "rejected": [answer_turn(signal.rejected)],
            }
        case _:
            return None
    _, record = parse_record(raw)
    bounded(record)
    return record


def bounded(record: Record) -> None:
    """Raises RecordInvalid where a record is larger than an event can carry."""
    size = len(record.model_dump_json().encode())
    if size > MAX_RECORD_BYTES:
        raise RecordInvalid("too_large", f"the record has {size} bytes; at most {MAX_RECORD_BYTES} are taken")


def answer_turn(content: str | None) -> dict[str, str]:
    """A text as the assistant's turn."""
    return {"role": "assistant", "content": content or ""}


def request_turns(request: Request) -> list[dict[str, Any]]:
    """The turns before the answer.

    Raises:
        RecordInvalid: they fit no record format.
    """
    if request.messages is None:
        return [{"role": "user", "content": request.prompt or ""}]
    return conversation(list(request.messages), "messages")
