"""Training examples that a signal or a teacher's answer makes, and the opinions that a signal holds: pure.

What is learnt of them: policy.py.
"""

from collections.abc import Iterator, Mapping
from dataclasses import dataclass, replace
from datetime import datetime
from hashlib import sha256
from typing import Any, NamedTuple

from contracts.chat import completion_text
from contracts.learning import Learning, SourceName
from contracts.records import Record, RecordInvalid, parse_record
from contracts.types import ModelRef
from services.feedback.domain.normal_form import answer_digest, question_digest, user_digest
from services.feedback.domain.records import Request, answer_turn, bounded, request_turns
from services.feedback.domain.records import record_id as of_signal
from services.feedback.domain.signals import Signal


@dataclass(frozen=True, slots=True)
class Example:
    """An example and where it comes from; the fields are those of feedback.example.released.v1."""

    example_id: str
    project: str
    source: SourceName
    request_id: str
    signal_id: str
    model: ModelRef
    user: str | None
    record: Record
    tags: Mapping[str, str]
    question: str
    good: str | None
    bad: str | None
    said_at: datetime
    teacher: str | None = None

    @property
    def text(self) -> str:
        """The answer that is learnt, or that is not to be given."""
        return completion_text(self.record)


class Opinion(NamedTuple):
    """Of an answer to a question: whether it is good."""

    answer: str
    is_good: bool


def opinions_on(signal: Signal, given: str, learning: Learning) -> tuple[Opinion, ...]:
    """What a signal says of answers to its request's question, `given` the digest of the one that it got.

    Of words alone, and of a score between the ends, nothing.
    """
    match signal.kind:
        case "correction":
            right = answer_digest(signal.correction or "")
            return (Opinion(right, True),) if right == given else (Opinion(right, True), Opinion(given, False))
        case "comparison":
            return Opinion(answer_digest(signal.chosen or ""), True), Opinion(
                answer_digest(signal.rejected or ""), False
            )
        case _:
            label = _label(signal, learning)
            return () if label is None else (Opinion(given, label),)


def examples(signal: Signal, request: Request, learning: Learning, said_at: datetime) -> tuple[Example, ...]:
    """The examples that a signal makes, whatever the policy says of them; none that is no record or too large for one."""
    try:
        drafts = list(_raw(signal, request, learning))
    except RecordInvalid:
        return ()
    said = opinions_on(signal, answer_digest(request.output), learning)
    good, bad = (next((o.answer for o in said if o.is_good is side), None) for side in (True, False))
    by = user_digest(request.project, signal.user)
    found = (_example(request, source, example_id, raw, by, said_at) for source, example_id, raw in drafts)
    return tuple(
        replace(example, signal_id=signal.signal_id, good=good, bad=bad) for example in found if example is not None
    )


def of_teacher(request: Request, user: str | None, said_at: datetime) -> Example | None:
    """The teacher's answer as an example; None where another answered, nothing was said, or it makes no record."""
    if request.teacher is None or not request.output.strip():
        return None
    try:
        raw = {"messages": [*request_turns(request), answer_turn(request.output)]}
    except RecordInvalid:
        return None
    by = user_digest(request.project, user)
    return _example(request, "teacher", f"teacher-{request.request_id}", raw, by, said_at)


def _example(
    request: Request, source: SourceName, example_id: str, raw: dict[str, Any], user: str | None, said_at: datetime
) -> Example | None:
    """The example, of no signal and no opinion yet; None where it is no record or too large for one."""
    try:
        _, record = parse_record(raw)
        bounded(record)
    except RecordInvalid:
        return None  # the signal itself is refused for it, or stands without this example
    return Example(
        example_id=example_id,
        project=request.project,
        source=source,
        request_id=request.request_id,
        signal_id="",
        model=request.model,
        user=user,
        record=record,
        tags=dict(request.prompt_variables or {}),
        question=question_digest(request),
        good=answer_digest(request.output),
        bad=None,
        said_at=said_at,
        teacher=request.teacher,
    )


def _raw(signal: Signal, request: Request, learning: Learning) -> Iterator[tuple[SourceName, str, dict[str, Any]]]:
    """(source, identity, record); those of a correction and of a comparison are the signal's own."""
    turns, on, given = request_turns(request), signal.request_id, request.output
    match signal.kind:
        case "correction":
            right = signal.correction or ""
            yield "corrections", of_signal(signal) or "", {"messages": [*turns, answer_turn(right)]}
            if given.strip() and answer_digest(given) != answer_digest(right):
                yield "pairs", f"pair-{on}", _pair(turns, right, given)
        case "comparison":
            chosen, rejected = signal.chosen or "", signal.rejected or ""
            yield "comparisons", of_signal(signal) or "", _pair(turns, chosen, rejected)
        case "thumb" | "score":
            label = _label(signal, learning)
            if label is None or not given.strip():
                return
            by = sha256((signal.user or "").encode("utf-8", "surrogatepass")).hexdigest()[:8]
            verdict = {"prompt": turns, "completion": [answer_turn(given)], "label": label}
            yield ("thumbs" if signal.kind == "thumb" else "scores"), f"{signal.kind}-{on}-{by}", verdict
            if label and signal.kind == "thumb":
                yield "approved", f"approved-{on}", {"messages": [*turns, answer_turn(given)]}
        case "text":
            return


def _pair(turns: list[dict[str, Any]], chosen: str, rejected: str) -> dict[str, Any]:
    return {"prompt": turns, "chosen": [answer_turn(chosen)], "rejected": [answer_turn(rejected)]}


def _label(signal: Signal, learning: Learning) -> bool | None:
    """Whether the answer was good; None where the signal does not say."""
    if signal.thumb is not None:
        return signal.thumb == "up"
    if signal.score is None:
        return None
    if signal.score >= learning.scores.high:
        return True
    return False if signal.score <= learning.scores.low else None
