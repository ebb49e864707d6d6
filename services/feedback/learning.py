"""What is learnt of a signal: its opinions and examples are kept, and each example is released, held or left out by the policy.

A held example comes free when its time has come, when others say the same, or when a reviewer lets it in.
"""

from collections.abc import Iterable
from dataclasses import fields, replace
from datetime import datetime, timedelta
from typing import Any

from contracts.envelope import Event
from contracts.events.feedback import ExampleHeldV1, ExampleRejectedV1, ExampleReleasedV1
from contracts.learning import Learning
from contracts.records import RecordInvalid, parse_record
from services.feedback.domain.examples import Example, examples, of_teacher, opinions_on
from services.feedback.domain.normal_form import answer_digest, question_digest, user_digest
from services.feedback.domain.policy import LEFT_OUT, Verdict, judged, wanted
from services.feedback.domain.records import Request, answer_turn, bounded
from services.feedback.domain.signals import Signal, about
from services.feedback.examples_store import Kept, Place
from services.feedback.store import Store

POLICY = "policy"
"""Who rejected what the project does not learn from."""
PATIENCE = timedelta(seconds=10)
"""So long an example waits for its project's definition; then it is judged by the defaults."""

Policy = tuple[Learning, tuple[str, ...]]
"""What a project learns, and by which methods."""
DEFAULTS: Policy = (Learning(), ("sft",))


class NotHeld(Exception):
    """A reviewer decides on an example that waits no more, or that was said anew meanwhile."""


def learn(signal: Signal, request: Request, said_at: datetime, store: Store) -> list[Event]:
    """Keeps what a signal says and makes of it; the events of all examples that change by it."""
    policy = _policy(request.project, store)
    learning, methods = policy or DEFAULTS
    question, user = question_digest(request), user_digest(request.project, signal.user)
    place = Place(request.project, question, user, said_at)
    store.examples.opine(about(signal), opinions_on(signal, answer_digest(request.output), learning), place)
    made = examples(signal, request, learning, said_at)
    if policy is None:
        return [_settle(each, unknown(said_at), store) for each in made if wanted(each, learning, methods)]
    events = [event for example in made for event in _judge(example, policy, said_at, store)]
    held = store.examples.disputed(request.project, question)
    others = (kept for kept in held if kept.example.signal_id != signal.signal_id)  # its own are judged by now
    return [*events, *_judge_again(others, said_at, store)]


def learn_teacher(request: Request, user: str | None, at: datetime, store: Store) -> list[Event]:
    """The event of a teacher's answer that is learnt; nothing where the project does not learn them, or a cap is reached."""
    example, policy = of_teacher(request, user, at), _policy(request.project, store)
    return [] if example is None or policy is None else _judge(example, policy, at, store)


def unknown(said_at: datetime) -> Verdict:
    """What becomes of an example whose project is not known yet: after a start definitions may come behind feedback."""
    return Verdict("held", "project_unknown", "its project's definition has not arrived", said_at + PATIENCE)


def settle_due(store: Store, now: datetime) -> Iterable[Event]:
    """Judges the examples whose time has come."""
    return _judge_again(store.examples.due(now), now, store)


def accept(kept: Kept, by: str, answer: str | None, store: Store) -> list[Event]:
    """A reviewer lets a held example in, perhaps with another answer in place of the good one.

    Raises:
        NotHeld: it waits no more.
        RecordInvalid: it makes no record with that answer, or a larger one than an event carries.
    """
    if kept.status != "held":
        raise NotHeld(_fate(kept))
    example = kept.example if answer is None else edited(kept.example, answer)
    return [_release(example, by, store)]


def reject(kept: Kept, by: str, note: str, store: Store) -> list[Event]:
    """A reviewer says that a held example is not to be learnt.

    Raises:
        NotHeld: it waits no more.
    """
    if kept.status != "held":
        raise NotHeld(_fate(kept))
    return [_reject(kept.example, by, note, store)]


def edited(example: Example, answer: str) -> Example:
    """The example with another answer in place of the good one.

    Raises:
        RecordInvalid: a verdict that an answer is bad has no good one, or it makes no record.
    """
    raw = example.record.model_dump(mode="json")
    if example.good is None:
        raise RecordInvalid("no_good_answer", "the example says of an answer that it is bad; it has none to be edited")
    side = next(name for name in ("chosen", "completion", "messages") if name in raw)
    _, record = parse_record(raw | {side: [*raw[side][:-1], answer_turn(answer)]})
    bounded(record)
    return replace(example, record=record, good=answer_digest(answer))


def _judge_again(held: Iterable[Kept], now: datetime, store: Store) -> list[Event]:
    return [
        event
        for kept in held
        for event in _judge(kept.example, _policy(kept.example.project, store) or DEFAULTS, now, store, kept)
    ]


def _judge(example: Example, policy: Policy, now: datetime, store: Store, held: Kept | None = None) -> list[Event]:
    """The event of an example's fate, none where it is that of before; what is not learnt and was held is rejected."""
    learning = policy[0]
    is_wanted = wanted(example, *policy)  # first, since what else was said takes four queries
    verdict = judged(example, learning, store.examples.seen(example), now) if is_wanted else LEFT_OUT
    if verdict.status == "left_out":
        return [_reject(example, POLICY, "the project does not learn from it", store)] if held else []
    if held and (verdict.status, verdict.reason, verdict.until) == (held.status, held.reason, held.until):
        return []
    return [_settle(example, verdict, store)]


def _policy(project: str, store: Store) -> Policy | None:
    """The project's policy; None where it is not known yet."""
    known = store.projects.current(project)
    return None if known is None else (known[1].learn, known[1].train.methods)


def _settle(example: Example, verdict: Verdict, store: Store) -> Event:
    if verdict.status == "released":
        return _release(example, "", store)
    reason, detail = verdict.reason or "", verdict.detail or ""
    store.examples.put(Kept(example, "held", reason, detail, verdict.until))
    return ExampleHeldV1(**_told(example), reason=reason, detail=detail, until=verdict.until)


def _release(example: Example, by: str, store: Store) -> Event:
    store.examples.put(Kept(example, "released", by=by))
    return ExampleReleasedV1(**_told(example), by=by)


def _reject(example: Example, by: str, note: str, store: Store) -> Event:
    store.examples.put(Kept(example, "rejected", by=by, note=note))
    return ExampleRejectedV1(project=example.project, example_id=example.example_id, by=by, note=note)


def _told(example: Example) -> dict[str, Any]:
    return {field.name: getattr(example, field.name) for field in fields(example)}


def _fate(kept: Kept) -> str:
    return f"{kept.example.example_id} is {kept.status}" + (f" by {kept.by}" if kept.by else "")
