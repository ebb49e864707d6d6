"""Each finding of the checker, produced by a defect of its own in a world that is well without it."""

import json
from collections.abc import Callable
from dataclasses import replace
from typing import Any

import pytest

from tests.chaos import checker
from tests.chaos.__main__ import segments, uncompacted
from tests.chaos.observed import KINDS, POISON, Kind, Message, Observed, Operation

DIGEST = "a" * 64
REF = {"uri": f"file:///artifacts/{DIGEST}", "sha256": DIGEST, "bytes": 3}
DATASET = {"number": 1, "version": "v1", "files": {"train": REF}}
MODEL = {"name": "p", "version": 1}
UPSTREAM, ACCEPTED, PROMOTED = checker.UPSTREAM, checker.ACCEPTED, checker.PROMOTED
DLQ = f"{UPSTREAM}.ingestion.main.dlq"


def message(topic: str, offset: int, id: str, body: dict[str, Any], cause: str = "", **headers: bytes) -> Message:
    named = {"ce_source": b"s", "ce_id": id.encode(), "ce_causationid": cause.encode(), **headers}
    return Message(topic, 0, offset, 7, b"p", json.dumps(body).encode(), named)


def submitted(offset: int, id: str, content: str) -> Message:
    return message(UPSTREAM, offset, id, {"project": "p", "record_id": "r", "record": {"text": content}})


def accepted(offset: int, revision: int, content: str, cause: str) -> Message:
    body = {"project": "p", "record_id": "r", "revision": revision, "record": {"text": content}}
    return message(ACCEPTED, offset, f"a{offset}", body, cause)


def told(topic: str, id: str, because: str, **body: Any) -> list[Message]:
    return [message(topic, 0, id, {"project": "p", "run_id": "run", "project_revision": "x", **body}, because)]


POISONED = Message(UPSTREAM, 0, 2, 7, b"p", b"{", {POISON: b"1"})
LETTER = Message(DLQ, 0, 0, 7, b"p", b"{", {"noria-partition": b"0", "noria-offset": b"2", "noria-id": b"l"})


def well() -> Observed:
    """A record in two revisions, a message twice, one poisoned, and one turn of the wheel."""
    first, second = submitted(0, "u1", "one"), submitted(1, "u2", "two")
    return Observed(
        operations=[Operation("record", "u1", True), Operation("record", "u2", True), Operation("record", "u3", False)],
        topics={
            UPSTREAM: [first, second, POISONED, replace(first, offset=3)],
            ACCEPTED: [accepted(0, 1, "one", "u1"), accepted(1, 2, "two", "u2")],
            DLQ: [LETTER, replace(LETTER, offset=1)],
            checker.FROZEN: told(checker.FROZEN, "f", "job:freeze:f1:done", dataset=DATASET),
            checker.TRAINED: told(checker.TRAINED, "t", "job:train:run:done", files={"w": REF}),
            checker.REGISTERED: told(checker.REGISTERED, "g", "t", model=MODEL),
            checker.SCORED: told(checker.SCORED, "e", "job:evaluate:ev:done", results=REF, evaluation_id="eval-run"),
            PROMOTED: told(PROMOTED, "m", "e", model=MODEL, cause="gate", detail="chrf"),
        },
        consumers={UPSTREAM: ("ingestion.main",)},
        inbox={"ingestion.main": frozenset({("s", "u1"), ("s", "u2"), (f"kafka:{UPSTREAM}/0/2/7", "")})},
        committed={("ingestion.main", UPSTREAM, 0): 4},
        jobs=[
            {"service": "prep", "id": "f1", "status": "done"},
            {"service": "trainer", "id": "run", "status": "done"},
            {"service": "evaluator", "id": "ev", "status": "done"},
        ],
        records=[{"project": "p", "record_id": "r", "revision": 2, "record": '{"text": "two"}'}],
        transitions=[{"name": "p", "version": 1, "after": "production", "cause": "gate", "reason": "chrf"}],
        answering={"p": 1},
        artifacts={DIGEST: (DIGEST, 3)},
    )


def with_topic(topic: str, change: Callable[[list[Message]], list[Message]]) -> Observed:
    seen = well()
    return replace(seen, topics={**seen.topics, topic: change(list(seen.topics[topic]))})


def changed(messages: list[Message], index: int, **body: Any) -> list[Message]:
    old = messages[index]
    messages[index] = replace(old, value=json.dumps({**old.body, **body}).encode())
    return messages


def with_request(*ids: str) -> Observed:
    seen = well()
    asked = [told(checker.REQUESTED, f"q{n}", "e", evaluation_id=id)[0] for n, id in enumerate(ids)]
    return replace(seen, topics={**seen.topics, checker.REQUESTED: asked})


def with_deployments(*told_by: tuple[str, float]) -> Observed:
    seen = well()
    about = {"model": MODEL, "promotion": 1, "status": "deployed"}
    said = [told(checker.DEPLOYED, id, "", seconds=seconds, **about)[0] for id, seconds in told_by]
    return replace(seen, topics={**seen.topics, checker.DEPLOYED: said})


def with_correction(*examples: tuple[str, str]) -> Observed:
    """A correction that was recorded, and examples of it: (topic, signal)."""
    seen = well()
    signal = {"signal_id": "sig", "kind": "correction"}
    made = {topic: [] for topic, _ in examples} | {checker.SIGNALLED: told(checker.SIGNALLED, "c", "", **signal)}
    for topic, of in examples:
        made[topic] += told(topic, f"x-{of}", "", example_id="r", signal_id=of, record={"text": "two"})
    return replace(seen, topics={**seen.topics, **made})


def test_a_correction_is_released_or_held() -> None:
    assert checker.check(with_correction((checker.HELD, "sig"))) == []
    assert checker.check(with_correction((checker.RELEASED, "sig"))) == []


def test_a_requested_evaluation_and_what_serving_says_of_a_promotion_are_well() -> None:
    seen = with_request("eval-run-r1")
    again = told(checker.SCORED, "e2", "job:evaluate:ev:done", results=REF, evaluation_id="eval-run-r1")
    entry = {"name": "p", "version": 1, "after": "production", "cause": "deployed", "reason": ""}
    topics = {**seen.topics, checker.SCORED: [*seen.topics[checker.SCORED], *again]}
    assert checker.check(replace(seen, topics=topics, transitions=[*seen.transitions, entry])) == []


def test_a_well_world_has_no_finding() -> None:
    assert checker.check(well()) == []
    assert checker.check(with_deployments(("d", 1.0))) == []


DEFECTS: list[tuple[str, Kind, Observed]] = [
    ("acknowledged, not there", "lost", replace(well(), operations=[Operation("record", "u9", True)])),
    (
        "never taken",
        "lost",
        replace(well(), inbox={"ingestion.main": frozenset({("s", "u1"), (f"kafka:{UPSTREAM}/0/2/7", "")})}),
    ),
    ("taken and not handled", "lost", with_topic(ACCEPTED, lambda m: m[:1])),
    ("correction without an example", "lost", with_correction()),
    ("example of no signal", "without_cause", with_correction((checker.HELD, "sig"), (checker.HELD, "other"))),
    ("prep is behind", "lost", replace(well(), records=[])),
    ("no dead letter", "lost", with_topic(DLQ, lambda _: [])),
    ("run without an end", "lost", with_topic(checker.TRAINED, lambda _: [])),
    ("requested evaluation without an end", "lost", with_request("eval-run-r1")),
    ("evaluation asked for twice", "doubled", with_request("eval-run", "eval-run")),
    ("promotion untold", "lost", with_topic(PROMOTED, lambda _: [])),
    ("promotion not served", "lost", replace(well(), answering={"p": 0})),
    ("artifact gone", "lost", replace(well(), artifacts={})),
    ("handled twice", "doubled", with_topic(ACCEPTED, lambda m: [*m, accepted(2, 3, "two", "u2")])),
    (
        "told under two ids",
        "doubled",
        with_topic(ACCEPTED, lambda m: [*m, replace(m[1], offset=2, headers={**m[1].headers, "ce_id": b"z"})]),
    ),
    ("one id, two bodies", "doubled", with_topic(ACCEPTED, lambda m: [*m, changed(list(m), 1, revision=7)[1]])),
    ("deployed twice under one id", "doubled", with_deployments(("d", 1.0), ("d", 2.0))),
    ("deployed twice", "doubled", with_deployments(("d", 1.0), ("e", 1.0))),
    (
        "died under two ids",
        "doubled",
        with_topic(DLQ, lambda m: [*m, replace(LETTER, headers={**LETTER.headers, "noria-id": b"k"})]),
    ),
    (
        "other order",
        "out_of_order",
        with_topic(ACCEPTED, lambda _: [accepted(0, 1, "two", "u2"), accepted(1, 2, "one", "u1")]),
    ),
    (
        "prep at an older one",
        "out_of_order",
        replace(well(), records=[{"project": "p", "record_id": "r", "revision": 2, "record": '{"text": "one"}'}]),
    ),
    (
        "nobody sent it",
        "without_cause",
        replace(well(), inbox={"ingestion.main": well().inbox["ingestion.main"] | {("s", "u9")}}),
    ),
    (
        "unknown cause",
        "without_cause",
        with_topic(ACCEPTED, lambda m: [m[0], replace(m[1], headers={**m[1].headers, "ce_causationid": b"?"})]),
    ),
    ("unknown job", "without_cause", replace(well(), jobs=[j for j in well().jobs if j["id"] != "ev"])),
    (
        "well-formed, dead",
        "without_cause",
        with_topic(UPSTREAM, lambda m: [m[0], m[1], replace(submitted(2, "u1", "one"), headers=m[0].headers), m[3]]),
    ),
    ("nobody promoted", "without_cause", with_topic(PROMOTED, lambda m: changed(m, 0, cause="promote"))),
    ("another content", "bad_digest", replace(well(), artifacts={DIGEST: ("b" * 64, 3)})),
    ("another size", "bad_digest", replace(well(), artifacts={DIGEST: (DIGEST, 4)})),
    ("not committed", "offset_behind", replace(well(), committed={})),
    (
        "never left",
        "outbox_stuck",
        replace(well(), outbox=[{"service": "prep", "id": 1, "topic": "t", "status": "pending"}]),
    ),
    (
        "job for ever",
        "stuck",
        replace(well(), jobs=[*well().jobs, {"service": "prep", "id": "f2", "status": "running"}]),
    ),
    (
        "parked for ever",
        "stuck",
        replace(well(), parked=[{"service": "prep", "topic": "t", "partition": 0, "offset": 1}]),
    ),
]


@pytest.mark.parametrize(("kind", "seen"), [d[1:] for d in DEFECTS], ids=[d[0] for d in DEFECTS])
def test_a_defect_is_found(kind: Kind, seen: Observed) -> None:
    assert kind in {finding.kind for finding in checker.check(seen)}


def test_every_kind_of_finding_is_produced() -> None:
    assert {kind for _, kind, _ in DEFECTS} == set(KINDS)


def test_a_run_without_compaction_proves_nothing() -> None:
    world = well()
    assert segments(world) == 0
    assert [finding.kind for finding in uncompacted(segments(world))] == ["stuck"]
    frozen = [
        told(checker.FROZEN, id, "j", segments=made)[0] for id, made in (("f", [DIGEST]), ("g", [DIGEST, "b" * 64]))
    ]
    made = segments(replace(world, topics={**world.topics, checker.FROZEN: frozen}))
    assert (made, uncompacted(made)) == (2, [])
