"""The promises as rules over what was observed: each names what was lost, doubled, disordered or came from nowhere.

Pure, and independent of the services: it shares with them the names of topics and fields alone.
"""

import json
from collections import Counter, defaultdict
from collections.abc import Callable, Iterable, Iterator, Mapping
from typing import Any

from tests.chaos.observed import Finding, Kind, Observed

UPSTREAM = "upstream.record.submitted.v1"
ACCEPTED = "ingestion.record.accepted.v1"
FROZEN = "prep.dataset.frozen.v1"
TRAINED = "trainer.model.trained.v1"
RUN_FAILED = "trainer.run.failed.v1"
SCORED = "evaluator.model.scored.v1"
NOT_SCORED = "evaluator.model.failed.v1"
REGISTERED = "registry.model.registered.v1"
PROMOTED = "registry.model.promoted.v1"
REJECTED = "registry.model.rejected.v1"
REQUESTED = "registry.evaluation.requested.v1"
DEPLOYED = "serving.deployment.changed.v1"
ANSWERED = "serving.inference.completed.v1"
SIGNALLED = "feedback.signal.recorded.v1"
NOT_SIGNALLED = "feedback.signal.refused.v1"
RELEASED = "feedback.example.released.v1"
HELD = "feedback.example.held.v1"

NATURAL: dict[str, Callable[[dict[str, Any]], object]] = {
    ACCEPTED: lambda b: (b["project"], b["record_id"], b["revision"]),
    FROZEN: lambda b: (b["project"], b["dataset"]["number"], b["project_revision"]),
    TRAINED: lambda b: b["run_id"],
    RUN_FAILED: lambda b: b["run_id"],
    SCORED: lambda b: b["evaluation_id"],
    NOT_SCORED: lambda b: b["evaluation_id"],
    REQUESTED: lambda b: b["evaluation_id"],
    REGISTERED: lambda b: (b["model"]["name"], b["model"]["version"]),
    REJECTED: lambda b: (b["model"]["name"], b["model"]["version"], b["evaluation_id"]),
    DEPLOYED: lambda b: (b["project"], b["promotion"], b["status"]),
    ANSWERED: lambda b: b["request_id"],
    SIGNALLED: lambda b: b["signal_id"],
    NOT_SIGNALLED: lambda b: b["signal_id"],
    RELEASED: lambda b: (b["example_id"], b["signal_id"]),
}
"""What an event is about, whatever its id: of each there is one."""


PROMOTIONS = ("gate", "promote", "rollback")
"""Causes of the registry's history that put a version into production, where its stage says so (a gate also rejects)."""


def check(observed: Observed) -> list[Finding]:
    """Everything that the promises forbid."""
    return [finding for rule in RULES for finding in rule(observed)]


def acknowledged_is_there(seen: Observed) -> Iterator[Finding]:
    """What was confirmed to somebody stands in its topic."""
    there = {
        "record": {m.identity[1] for m in seen.first(UPSTREAM)},
        "answer": {m.body["request_id"] for m in seen.first(ANSWERED)},
        "feedback": {m.body["signal_id"] for m in seen.events(SIGNALLED, NOT_SIGNALLED)},
        "promote": {m.body["detail"] for m in seen.first(PROMOTED)},
    }
    there["upload"] = there["record"]
    for operation in seen.operations:
        if operation.acknowledged and operation.id not in there[operation.what]:
            yield Finding("lost", operation.what, f"{operation.id} was acknowledged and stands in no topic")


def every_message_was_taken(seen: Observed) -> Iterator[Finding]:
    """Each message of a topic is in the inbox of each of its consumers, and nothing else is."""
    for group, taken in seen.inbox.items():
        topics = [topic for topic, groups in seen.consumers.items() if group in groups]
        sent = {message.taken_as: message for topic in topics for message in seen.topics.get(topic, ())}
        for identity, message in sent.items():
            if identity not in taken:
                yield Finding("lost", group, f"{message.place} was never taken")
        for identity in taken - sent.keys():
            yield Finding("without_cause", group, f"its inbox holds {identity}, which nobody sent")


def offsets_are_at_the_end(seen: Observed) -> Iterator[Finding]:
    """A group at rest has committed what it took."""
    ends: dict[tuple[str, int], int] = {}
    for topic, messages in seen.topics.items():
        for message in messages:
            ends[topic, message.partition] = max(ends.get((topic, message.partition), 0), message.offset + 1)
    for topic, groups in seen.consumers.items():
        for (name, partition), end in ends.items():
            for group in groups if name == topic else ():
                at = seen.committed.get((group, topic, partition), 0)
                if at < end:
                    yield Finding("offset_behind", group, f"{topic}/{partition} stands at {at} of {end}")


def nothing_waits(seen: Observed) -> Iterator[Finding]:
    """At rest no outbox row, parked message or unfinished job is left."""
    for row in seen.outbox:
        yield Finding("outbox_stuck", row["service"], f"row {row['id']} to {row['topic']} is {row['status']}")
    for row in seen.parked:
        yield Finding("stuck", row["service"], f"parked: {row['topic']}/{row['partition']}/{row['offset']}")
    for row in seen.jobs:
        if row["status"] in ("queued", "running"):
            yield Finding("stuck", row["service"], f"job {row['id']} is {row['status']}")


def an_id_has_one_body(seen: Observed) -> Iterator[Finding]:
    """An event that was sent twice was sent the same."""
    for topic in NATURAL:
        bodies: dict[Any, bytes | None] = {}
        for message in seen.topics.get(topic, ()):
            if bodies.setdefault(message.identity, message.value) != message.value:
                yield Finding("doubled", topic, f"{message.identity} stands there with two bodies")


def a_thing_has_one_event(seen: Observed) -> Iterator[Finding]:
    """No two ids tell of the same thing."""
    for topic, about in NATURAL.items():
        for thing, count in Counter(about(m.body) for m in seen.first(topic)).items():
            if count > 1:
                yield Finding("doubled", topic, f"{thing} was told {count} times under different ids")


def effects_have_causes(seen: Observed) -> Iterator[Finding]:
    """What names a cause names one that exists: an event, a job, or an operation of somebody outside."""
    known = {m.identity[1] for messages in seen.topics.values() for m in messages}
    known |= {m.cause for m in seen.first(PROMOTED) if m.body["cause"] != "gate"}  # what a person's promotion led to
    jobs = {row["id"] for row in seen.jobs}
    for topic in (ACCEPTED, FROZEN, TRAINED, RUN_FAILED, SCORED, NOT_SCORED, REGISTERED, REJECTED, REQUESTED):
        for message in seen.first(topic):
            job = message.cause.rpartition(":")[0].split(":", 2)[-1] if message.cause.startswith("job:") else None
            if (job not in jobs) if job is not None else (message.cause not in known):
                yield Finding("without_cause", topic, f"{message.identity[1]} names the cause {message.cause!r}")
    asked = {operation.id for operation in seen.operations if operation.what == "promote"}
    for message in seen.first(PROMOTED):
        by_hand = message.body["cause"] != "gate"
        if (message.body["detail"] not in asked) if by_hand else (message.cause not in known):
            yield Finding("without_cause", PROMOTED, f"{message.identity[1]}: {message.body['detail']!r}")


def corrections_are_learnt_or_held(seen: Observed) -> Iterator[Finding]:
    """Each correction that was recorded is an example that was released or held, and each example is of a recorded signal."""
    examples = {m.body["signal_id"] for m in seen.events(RELEASED, HELD)}
    signals = {m.body["signal_id"]: m.body["kind"] for m in seen.first(SIGNALLED)}
    for signal, kind in signals.items():
        if kind == "correction" and signal not in examples:
            yield Finding("lost", SIGNALLED, f"{signal} was neither released nor held")
    for signal in examples - signals.keys():
        yield Finding("without_cause", RELEASED, f"an example of {signal}, which was never recorded")


def records_follow_their_submissions(seen: Observed) -> Iterator[Finding]:
    """The accepted revisions of a record are its submitted contents, repeats left out, in their order."""
    wanted: dict[tuple[str, str], list[str]] = defaultdict(list)
    for message in seen.first(UPSTREAM):
        _revise(wanted, message.body["project"], message.body["record_id"], message.body["record"])
    for message in seen.first(RELEASED):
        _revise(wanted, message.body["project"], message.body["example_id"], message.body["record"])
    told: dict[tuple[str, str], list[str]] = defaultdict(list)
    for message in seen.first(ACCEPTED):
        told[message.body["project"], message.body["record_id"]].append(_plain(message.body["record"]))
    for key in wanted.keys() | told.keys():
        yield from _compare(ACCEPTED, "/".join(key), wanted[key], told[key])
    yield from _kept(seen, told)


def _revise(wanted: dict[tuple[str, str], list[str]], project: str, record_id: str, record: Any) -> None:
    contents = wanted[project, record_id]
    if not contents or contents[-1] != _plain(record):
        contents.append(_plain(record))


def _plain(value: Any) -> str:
    return json.dumps(value, sort_keys=True)


def _kept(seen: Observed, told: dict[tuple[str, str], list[str]]) -> Iterator[Finding]:
    """Prep holds each record's last revision."""
    rows = {(row["project"], row["record_id"]): row for row in seen.records}
    for key, contents in told.items():
        row = rows.pop(key, None)
        if row is None or row["revision"] < len(contents):
            yield Finding("lost", "prep", f"{key} stands at {row and row['revision']} of {len(contents)} revisions")
        elif (row["revision"], _plain(json.loads(row["record"]))) != (len(contents), contents[-1]):
            yield Finding("out_of_order", "prep", f"{key} is not at its last revision: {row['revision']}")
    for key in rows:
        yield Finding("without_cause", "prep", f"{key} was never accepted")


def _compare(where: str, key: str, wanted: list[str], told: list[str]) -> Iterator[Finding]:
    """Two sequences that should be the same."""
    if wanted == told:
        return
    missing, extra = Counter(wanted) - Counter(told), Counter(told) - Counter(wanted)
    for content in missing.elements():
        yield Finding("lost", where, f"{key}: {content[:120]} had no effect")
    for content in extra.elements():
        kind: Kind = "doubled" if content in wanted else "without_cause"
        yield Finding(kind, where, f"{key}: {content[:120]} had an effect too many")
    if not missing and not extra:
        yield Finding("out_of_order", where, f"{key}: the effects come in another order than their causes")


def the_wheel_turned_once(seen: Observed) -> Iterator[Finding]:
    """Each dataset has one run, each run one version or failure, each version one evaluation and one verdict."""
    versions: dict[str, list[int]] = defaultdict(list)
    for message in seen.first(REGISTERED):
        versions[message.body["model"]["name"]].append(message.body["model"]["version"])
    for name, numbers in versions.items():
        yield from _compare(REGISTERED, name, [str(n + 1) for n in range(len(numbers))], [str(n) for n in numbers])
    runs = {m.body["run_id"] for m in seen.events(TRAINED, RUN_FAILED)}
    planned = {row["id"] for row in seen.jobs if row["service"] == "trainer"}
    trained = {m.body["run_id"] for m in seen.first(TRAINED)}
    yield from _each(RUN_FAILED, "run", planned, runs)
    yield from _each(REGISTERED, "trained run", trained, {m.body["run_id"] for m in seen.first(REGISTERED)})
    yield from _each(SCORED, "trained run", trained, {m.body["run_id"] for m in seen.events(SCORED, NOT_SCORED)})
    ended = {m.body["evaluation_id"] for m in seen.events(SCORED, NOT_SCORED)}
    first = {f"eval-{run}" for run in trained}
    yield from _each(SCORED, "evaluation", first | {m.body["evaluation_id"] for m in seen.first(REQUESTED)}, ended)
    frozen = {(m.body["project"], m.body["dataset"]["version"], m.body["project_revision"]) for m in seen.first(FROZEN)}
    if len(frozen) != len(planned):
        kind: Kind = "lost" if len(frozen) > len(planned) else "without_cause"
        yield Finding(kind, "trainer", f"{len(frozen)} datasets were announced and {len(planned)} runs planned")


def _each(where: str, what: str, wanted: set[str], told: set[str]) -> Iterator[Finding]:
    for name in wanted - told:
        yield Finding("lost", where, f"{what} {name} has no end")
    for name in told - wanted:
        yield Finding("without_cause", where, f"{what} {name} is not known")


def history_was_told(seen: Observed) -> Iterator[Finding]:
    """The registry's promotions are its events in their order, and the last one is what answers."""
    for name in {row["name"] for row in seen.transitions} | set(seen.answering):
        done = [r for r in seen.transitions if r["name"] == name and _promotes(r)]
        told = [m for m in seen.first(PROMOTED) if m.body["model"]["name"] == name]
        rows = [f"{r['version']} {r['cause']} {r['reason']}" for r in done]
        events = [f"{m.body['model']['version']} {m.body['cause']} {m.body['detail']}" for m in told]
        yield from _compare(PROMOTED, name, rows, events)
        last = done[-1]["version"] if done else 0
        if seen.answering.get(name, 0) != last:
            yield Finding("lost", "serving", f"{name}: version {last} was promoted, {seen.answering.get(name)} answers")


def _promotes(row: Mapping[str, Any]) -> bool:
    return row["after"] == "production" and row["cause"] in PROMOTIONS


def every_artifact_is_what_it_says(seen: Observed) -> Iterator[Finding]:
    """What lies in the store has its name's digest, and what events refer to lies there."""
    for name, (digest, _) in seen.artifacts.items():
        if name != digest:
            yield Finding("bad_digest", "artifacts", f"{name} has the digest {digest}")
    for topic in (FROZEN, TRAINED, SCORED, PROMOTED):
        for message in seen.first(topic):
            for ref in _references(message.body):
                lies = seen.artifacts.get(ref["sha256"])
                if lies is None:
                    yield Finding("lost", topic, f"{message.identity[1]} refers to {ref['uri']}, which is not there")
                elif lies[1] != ref["bytes"]:
                    yield Finding("bad_digest", topic, f"{ref['uri']} has {lies[1]} bytes, not {ref['bytes']}")


def _references(value: Any) -> Iterator[dict[str, Any]]:
    if isinstance(value, dict):
        if {"uri", "sha256", "bytes"} <= value.keys():
            yield value
        else:
            for inner in value.values():
                yield from _references(inner)
    elif isinstance(value, list):
        for inner in value:
            yield from _references(inner)


def dead_letters_are_the_poison(seen: Observed) -> Iterator[Finding]:
    """Each malformed message is a dead letter of each of its consumers, once; nothing else is one."""
    for topic, groups in seen.consumers.items():
        poison = {m.place for m in seen.topics.get(topic, ()) if m.poison}
        for group in groups:
            letters = seen.topics.get(f"{topic}.{group}.dlq", ())
            ids: dict[Any, set[bytes | None]] = defaultdict(set)
            why: dict[Any, str] = {}
            for letter in letters:
                at = (letter.headers.get("noria-partition"), letter.headers.get("noria-offset"))
                place = (topic, *(int(n or b"-1") for n in at))
                ids[place].add(letter.headers.get("noria-id"))
                why[place] = (letter.headers.get("noria-detail") or b"no reason").decode("utf-8", "replace")
            for place in poison - ids.keys():
                yield Finding("lost", f"{topic}.{group}.dlq", f"malformed {place} is no dead letter")
            for place in ids.keys() - poison:
                yield Finding(
                    "without_cause", f"{topic}.{group}.dlq", f"{place} was well-formed and died: {why[place]}"
                )
            for place, names in ids.items():
                if len(names) > 1:
                    yield Finding("doubled", f"{topic}.{group}.dlq", f"{place} died under {len(names)} ids")


RULES: tuple[Callable[[Observed], Iterable[Finding]], ...] = (
    acknowledged_is_there,
    every_message_was_taken,
    offsets_are_at_the_end,
    nothing_waits,
    an_id_has_one_body,
    a_thing_has_one_event,
    effects_have_causes,
    corrections_are_learnt_or_held,
    records_follow_their_submissions,
    the_wheel_turned_once,
    history_was_told,
    every_artifact_is_what_it_says,
    dead_letters_are_the_poison,
)
