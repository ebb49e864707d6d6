"""The last word counts, also where it returns to an earlier one: from feedback through ingestion to prep."""

import asyncio
import json
from collections.abc import Iterator
from datetime import UTC, datetime
from itertools import pairwise, permutations
from pathlib import Path
from typing import Any

import pytest
from fastapi import FastAPI
from fastapi.testclient import TestClient

from contracts.events.registry import ProjectDefinedV1
from contracts.events.serving import InferenceCompletedV1
from contracts.learning import Learning, Source
from contracts.project import ProjectSpec
from contracts.types import ModelRef
from services.chassis.http import guard
from services.chassis.http.application import answer, install_errors
from services.feedback import handlers
from services.feedback.domain.signals import Feedback
from services.feedback.http import make_router
from services.feedback.settings import FeedbackSettings
from services.ingestion.settings import IngestionSettings
from services.prep.settings import PrepSettings
from tests.unit.chain import Link, Message, message

NOW = datetime(2026, 1, 31, 12, tzinfo=UTC)


class Stream:
    """Feedback, ingestion and prep, one after the other."""

    def __init__(self, home: Path) -> None:
        self.feedback = Link("feedback", FeedbackSettings(home=home), home)
        self.ingestion = Link("ingestion", IngestionSettings(home=home), home)
        self.prep = Link("prep", PrepSettings(home=home), home)
        spec = ProjectSpec(project="p", base="b", learn=Learning(approved=Source(weight=0)))
        defined = ProjectDefinedV1(project="p", revision="0" * 64, spec=spec)
        self.feedback.take([message(defined, "defined")])
        self.ingestion.take([message(defined, "defined")])

    def say(self, **said: Any) -> list[Any]:
        """Gives feedback on r1; what became of its signals."""
        given = Feedback.model_validate({"request_id": "r1", **said})
        return asyncio.run(self.feedback.context.transact(lambda store: handlers.give(given, NOW, store)))

    def answered(self) -> None:
        """The request's record arrives."""
        model = ModelRef(name="p", version=1)
        turn: dict[str, Any] = {"role": "user", "content": "tar: list"}
        event = InferenceCompletedV1(
            project="p", request_id="r1", model=model, endpoint="chat.completions", messages=(turn,), output="tar"
        )
        self.feedback.take([message(event, "r1")])

    def flow(self) -> list[Message]:
        """Lets everything arrive; the signals."""
        signals = self.feedback.sent()
        self.ingestion.take(signals)
        self.prep.take(self.ingestion.sent())
        return signals

    def learnt(self) -> list[tuple[int, str]]:
        """Revision and answer of each record that prep holds."""
        rows = self.prep.rows("SELECT revision, record FROM record ORDER BY record_id")
        records = [(revision, json.loads(record)) for revision, record in rows]
        return [(revision, (r.get("messages") or r.get("chosen"))[-1]["content"]) for revision, r in records]


@pytest.fixture
def stream(tmp_path: Path) -> Iterator[Stream]:
    found = Stream(tmp_path)
    yield found
    for link in (found.feedback, found.ingestion, found.prep):
        link.engine.dispose()


def words(signals: list[Message], field: str) -> list[str]:
    return [json.loads(signal.value or b"")[field] for signal in signals]


@pytest.mark.parametrize("early", [False, True])
def test_word_that_returns_is_the_last_and_a_repeat_is_none(stream: Stream, early: bool) -> None:
    if not early:
        stream.answered()
    said = [stream.say(thumb=thumb)[0] for thumb in ("up", "up", "down", "up", "up", "down")]
    if early:
        stream.answered()
    signals = stream.flow()
    assert words(signals, "thumb") == ["up", "down", "up", "down"]
    assert len(set(words(signals, "signal_id"))) == 4
    repeats = [one.signal.signal_id == next.signal.signal_id for one, next in pairwise(said)]
    assert repeats == [True, False, False, True, False]


def test_correction_that_returns_is_the_newest_revision_in_prep(stream: Stream) -> None:
    """The third was a repeat of the first, so that the second was learnt."""
    stream.answered()
    for user, text in (("a", "tar t"), ("b", "tar -tf"), ("a", "tar t")):
        stream.say(correction=text, user=user)
    stream.flow()
    assert stream.learnt() == [(3, "tar t")]


def test_verdict_on_a_pair_that_returns_is_the_newest_revision_in_prep(stream: Stream) -> None:
    """Turned round it was a record of its own: both stood beside each other and contradicted one another."""
    stream.answered()
    for chosen, rejected in (("x", "y"), ("y", "x"), ("x", "y")):
        stream.say(chosen=chosen, rejected=rejected)
        stream.flow()
    assert stream.learnt() == [(3, "x")]


def test_word_that_waited_is_recorded_before_a_newer_one(stream: Stream) -> None:
    """On PostgreSQL feedback may wait though its request is there: then the older word came last."""
    stream.answered()
    stream.say(thumb="up")
    waiting = "UPDATE signal SET status = 'waiting'"
    with stream.feedback.engine.begin() as connection:
        connection.exec_driver_sql(waiting)
    stream.feedback.sent()
    stream.say(thumb="down")
    assert words(stream.flow(), "thumb") == ["up", "down"]


@pytest.mark.parametrize("order", [*permutations(range(3))])
def test_clock_that_jumps_turns_no_words_round(stream: Stream, order: tuple[int, ...]) -> None:
    for hour, thumb in zip(order, ("up", "down", "up"), strict=True):
        given, at = Feedback.model_validate({"request_id": "r1", "thumb": thumb}), NOW.replace(hour=hour)
        asyncio.run(stream.feedback.context.transact(lambda store, f=given, at=at: handlers.give(f, at, store)))
    stream.answered()
    assert words(stream.flow(), "thumb") == ["up", "down", "up"]


def test_feedback_again_under_its_key_is_no_new_word(stream: Stream) -> None:
    """A retry that comes late, after another word, is not the last word."""
    app = FastAPI()
    install_errors(app)
    guard.install(app, guard.Guard(stream.feedback.context.settings), answer, make_router(stream.feedback.context))
    client = TestClient(app)
    stream.answered()

    def post(thumb: str, key: str) -> Any:
        body = {"request_id": "r1", "thumb": thumb}
        return client.post("/v1/feedback", json=body, headers={"idempotency-key": key})

    first, _, again = post("up", "k1"), post("down", "k2"), post("up", "k1")
    assert again.json() == first.json()
    other = post("up", "k2")
    assert (other.status_code, other.json()["error"]["code"]) == (422, "idempotency_key_reused")
    assert words(stream.flow(), "thumb") == ["up", "down"]
    post("up", "k3")
    assert words(stream.flow(), "thumb") == ["up"]
