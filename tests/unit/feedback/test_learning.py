"""What is learnt of signals, in the database: caps, agreement, bursts, contested answers, reviewers, and its restoration."""

from collections.abc import Generator, Iterator
from contextlib import contextmanager
from datetime import UTC, datetime, timedelta
from pathlib import Path
from typing import Any

import pytest
from fastapi import FastAPI
from fastapi.testclient import TestClient
from sqlalchemy import Engine
from sqlmodel import Session

from contracts.envelope import Event, new_meta
from contracts.events.feedback import ExampleHeldV1, ExampleRejectedV1, ExampleReleasedV1
from contracts.events.registry import ProjectDefinedV1
from contracts.events.serving import InferenceCompletedV1, TeacherAnswer
from contracts.project import ProjectSpec
from contracts.types import ModelRef
from services.chassis.context import Context
from services.chassis.http import guard
from services.chassis.http.application import answer, install_errors
from services.chassis.observability.metrics import Metrics
from services.chassis.storage.artifacts import open_store
from services.chassis.storage.database import open_engine, writing
from services.chassis.storage.migration import migrate
from services.feedback import handlers, learning
from services.feedback.domain.signals import Feedback
from services.feedback.http import make_router
from services.feedback.restore import RESTORE
from services.feedback.settings import FeedbackSettings
from services.feedback.store import SqlStore

NOW = datetime(2026, 1, 31, 12, tzinfo=UTC)
MIGRATIONS = Path(handlers.__file__).parent / "migrations"


class Feedbacks:
    """Feedback's database and what was emitted."""

    def __init__(self, url: str, home: Path) -> None:
        self.settings = FeedbackSettings(home=home, database=url)
        self.engine: Engine = open_engine(self.settings)
        migrate(self.engine, "feedback", MIGRATIONS)
        self.emitted: list[Event] = []

    @contextmanager
    def store(self) -> Generator[SqlStore]:
        with writing(self.engine) as connection, Session(connection, expire_on_commit=False) as session:
            yield SqlStore(session)
            session.flush()

    def define(self, number: int = 1, **learn: Any) -> None:
        spec = ProjectSpec.model_validate({"project": "p", "base": "b", "learn": {"approved": {"weight": 0}} | learn})
        event = ProjectDefinedV1(project="p", revision=f"{number:064d}", spec=spec, sequence=number)
        with self.store() as store:
            store.projects.remember(event, NOW)

    def say(
        self, request_id: str, question: str = "", at: datetime = NOW, output: str = "no", **said: Any
    ) -> list[Event]:
        """A request and feedback on it; the examples' events."""
        event = InferenceCompletedV1(
            project="p",
            request_id=request_id,
            model=ModelRef(name="p", version=1),
            endpoint="chat.completions",
            messages=({"role": "user", "content": question or f"question {request_id}"},),
            output=output,
        )
        with self.store() as store:
            list(handlers.on_inference_completed(event, new_meta(event, "urn:x", "1", time=at), store))
        with self.store() as store:
            _, events = handlers.give(Feedback.model_validate({"request_id": request_id, **said}), at, store)
        return self._took(events)

    def answered(self, request_id: str, at: datetime, conversation: str, *turns: str) -> None:
        """A request of a conversation."""
        event = InferenceCompletedV1(
            project="p",
            request_id=request_id,
            model=ModelRef(name="p", version=1),
            endpoint="chat.completions",
            messages=tuple({"role": "user", "content": turn} for turn in turns),
            metadata={"conversation": conversation},
            output=f"answer {request_id}",
        )
        with self.store() as store:
            list(handlers.on_inference_completed(event, new_meta(event, "urn:x", "1", time=at), store))

    def settle(self, at: datetime) -> list[Event]:
        with self.store() as store:
            return self._took(learning.settle_due(store, at))

    def _took(self, events: Any) -> list[Event]:
        new = list(events)
        self.emitted += new
        return [e for e in new if isinstance(e, ExampleReleasedV1 | ExampleHeldV1 | ExampleRejectedV1)]

    def client(self) -> TestClient:
        context = Context(self.settings, self.engine, SqlStore, open_store(self.settings), Metrics("feedback"))
        app = FastAPI()
        install_errors(app)
        guard.install(app, guard.Guard(self.settings), answer, make_router(context))
        return TestClient(app)


@pytest.fixture
def feedbacks(database_url: str, tmp_path: Path) -> Iterator[Feedbacks]:
    found = Feedbacks(database_url, tmp_path)
    yield found
    found.engine.dispose()


def fates(events: list[Event]) -> list[str]:
    """'released' or why it is held, of each event."""
    return [
        e.reason if isinstance(e, ExampleHeldV1) else "rejected" if isinstance(e, ExampleRejectedV1) else "released"
        for e in events
    ]


def test_one_user_cannot_outweigh(feedbacks: Feedbacks) -> None:
    feedbacks.define(corrections={"per_user": 2})
    said = [f"answer {w}" for w in ("one", "two", "three", "four")]
    found = [fates(feedbacks.say(f"r{n}", correction=text, user="mallory")) for n, text in enumerate(said)]
    assert found == [["released"], ["released"], ["per_user"], ["per_user"]]
    assert fates(feedbacks.say("r9", correction="another one", user="ann")) == ["released"]
    later = NOW + timedelta(hours=25)
    assert fates(feedbacks.say("r10", at=later, correction="next day", user="mallory")) == ["released"]


def test_a_day_has_a_cap_for_those_who_are_not_named(feedbacks: Feedbacks) -> None:
    feedbacks.define(corrections={"per_user": 1, "per_day": 3})
    said = [fates(feedbacks.say(f"r{n}", correction=f"w{n} x{n} y{n}")) for n in range(4)]
    assert said == [["released"]] * 3 + [["per_day"]]


def test_several_must_agree_and_the_first_comes_free_with_the_second(feedbacks: Feedbacks) -> None:
    feedbacks.define(corrections={"agree": 2})
    assert fates(feedbacks.say("r1", "how?", correction="so", user="ann")) == ["agree"]
    assert fates(feedbacks.say("r2", "how?", correction="so", user="ann")) == ["agree"], "one person is one"
    assert fates(feedbacks.say("r3", "how?", correction="else", user="bob")) == ["agree"], "another answer is none"
    freed = feedbacks.say("r4", "How?", correction="so", user="eve")
    assert fates(freed) == ["released"] * 3
    assert {e.example_id for e in freed if isinstance(e, ExampleReleasedV1)} == {
        "feedback-r1",
        "feedback-r2",
        "feedback-r4",
    }


def test_bursts_of_nearly_equal_answers_are_held_whoever_sends_them(feedbacks: Feedbacks) -> None:
    feedbacks.define(alike=3)
    spam = "buy the best pills in town at pills dot example today friends number"
    found = [fates(feedbacks.say(f"r{n}", correction=f"{spam} {n}", user=f"bot{n}")) for n in range(5)]
    assert found == [["released"]] * 3 + [["alike"]] * 2
    assert fates(feedbacks.say("r8", correction="tar -tf a.tar", user="ann")) == ["released"]
    later = NOW + timedelta(hours=25)
    assert fates(feedbacks.say("r9", at=later, correction=f"{spam} 9", user="bot")) == ["released"], "no burst any more"


def test_what_others_say_otherwise_is_held_until_more_agree(feedbacks: Feedbacks) -> None:
    feedbacks.define()
    assert feedbacks.say("r1", "capital of France?", output="Paris", thumb="up", user="ann") == []
    assert fates(feedbacks.say("r2", "capital of France?", output="Paris", correction="Lyon", user="mallory")) == [
        "contested"
    ]
    assert feedbacks.say("r3", "capital of France?", output="Paris", thumb="up", user="bob") == []
    with feedbacks.store() as store:
        [held] = store.examples.held("p", None, 9)
        assert (held.reason, held.example.source) == ("contested", "corrections")
    freed = [
        fates(feedbacks.say(f"s{n}", "capital of France?", output="Paris", correction="Lyon", user=f"u{n}"))
        for n in range(2)
    ]
    assert freed[-1] == ["released"] * 3, "three say so, two say otherwise"


def test_the_last_word_of_a_person_counts(feedbacks: Feedbacks) -> None:
    feedbacks.define()
    feedbacks.say("r1", "how?", output="so", thumb="up", user="ann")
    feedbacks.say("r1", "how?", output="so", thumb="down", user="ann")
    assert fates(feedbacks.say("r2", "how?", output="so", correction="else", user="bob")) == ["released"]


def test_examples_wait_and_are_judged_then(feedbacks: Feedbacks) -> None:
    feedbacks.define(wait="1h")
    assert fates(feedbacks.say("r1", "how?", output="so", correction="wrong", user="mallory")) == ["wait"]
    assert fates(feedbacks.say("r2", "why?", output="x", correction="y", user="ann")) == ["wait"]
    feedbacks.say("r3", "how?", output="so", thumb="up", user="bob")
    assert feedbacks.settle(NOW + timedelta(minutes=59)) == []
    assert sorted(fates(feedbacks.settle(NOW + timedelta(hours=1)))) == ["contested", "released"]
    assert feedbacks.settle(NOW + timedelta(hours=2)) == []


def test_what_comes_before_its_project_is_judged_when_that_is_known(feedbacks: Feedbacks) -> None:
    assert fates(feedbacks.say("r1", correction="x")) == ["project_unknown"]
    assert fates(feedbacks.say("r2", correction="y")) == ["project_unknown"]
    feedbacks.define(corrections={"weight": 0})
    assert fates(feedbacks.settle(NOW + learning.PATIENCE)) == ["rejected", "rejected"]


def test_a_source_that_is_off_makes_nothing(feedbacks: Feedbacks) -> None:
    feedbacks.define(corrections={"weight": 0}, pairs={"weight": 1}, approved={"weight": 1})
    assert [e.source for e in feedbacks.say("r1", correction="x") if isinstance(e, ExampleReleasedV1)] == ["pairs"]
    assert [e.source for e in feedbacks.say("r2", thumb="up") if isinstance(e, ExampleReleasedV1)] == ["approved"]


def test_reviewers_learn_edit_and_reject(feedbacks: Feedbacks) -> None:
    feedbacks.define(corrections={"agree": 2}, pairs={"weight": 1, "agree": 2})
    for n in range(3):
        feedbacks.say(f"r{n}", output=f"given {n}", correction=f"text {n}", user="ann")
    client = feedbacks.client()
    first = client.get("/v1/review", params={"limit": 4}).json()
    rest = client.get("/v1/review", params={"after": first["next"], "project": "p"}).json()
    items = [*first["items"], *rest["items"]]
    assert [len(first["items"]), len(items), rest["next"]] == [4, 6, None]
    assert len({item["example_id"] for item in items}) == 6
    pair = next(item for item in items if item["example_id"] == "pair-r1")
    assert (pair["prompt"][-1]["content"], pair["good"], pair["bad"]) == ("question r1", "text 1", "given 1")
    assert {item["request_id"]: item["answered"] for item in items} == {f"r{n}": f"given {n}" for n in range(3)}

    learnt = client.post("/v1/review/feedback-r0/accept", json={"by": "rita", "signal_id": items[0]["signal_id"]})
    assert (learnt.status_code, learnt.json()["status"], learnt.json()["by"]) == (200, "released", "rita")
    changed = client.post("/v1/review/pair-r1/accept", json={"answer": "better"}).json()
    assert (changed["status"], changed["good"], changed["bad"]) == ("released", "better", "given 1")
    out = client.post("/v1/review/feedback-r2/reject", json={"note": "wrong"}).json()
    assert (out["status"], out["note"]) == ("rejected", "wrong")

    again = client.post("/v1/review/feedback-r2/accept", json={})
    assert (again.status_code, again.json()["error"]["code"]) == (409, "not_held")
    stale = client.post("/v1/review/feedback-r1/accept", json={"signal_id": "sig-other"})
    assert (stale.status_code, stale.json()["error"]["code"]) == (409, "said_anew")
    assert client.post("/v1/review/none/accept", json={}).status_code == 404
    assert client.post("/v1/review/feedback-r1/accept", json={"answer": " "}).status_code == 422
    assert client.get("/v1/review/feedback-r1").json()["status"] == "held", "a refused decision changes nothing"
    shown = client.get(f"/v1/feedback/{items[0]['signal_id']}").json()
    assert [(e["source"], e["status"]) for e in shown["examples"]] == [("corrections", "released"), ("pairs", "held")]


def test_a_verdict_that_an_answer_is_bad_has_nothing_to_edit(feedbacks: Feedbacks) -> None:
    feedbacks.define(thumbs={"weight": 1, "agree": 2})
    [held] = feedbacks.say("r1", thumb="down", user="ann")
    assert isinstance(held, ExampleHeldV1)
    refused = feedbacks.client().post(f"/v1/review/{held.example_id}/accept", json={"answer": "x"})
    assert (refused.status_code, refused.json()["error"]["code"]) == (422, "no_good_answer")


def test_a_new_word_on_a_rejected_example_is_judged_anew(feedbacks: Feedbacks) -> None:
    feedbacks.define(corrections={"agree": 2})
    feedbacks.say("r1", correction="x", user="ann")
    feedbacks.client().post("/v1/review/feedback-r1/reject", json={})
    assert fates(feedbacks.say("r1", correction="y", user="ann")) == ["agree"]


def test_the_log_restores_examples_and_opinions(feedbacks: Feedbacks, tmp_path: Path) -> None:
    feedbacks.define(corrections={"agree": 2}, approved={"weight": 1})
    feedbacks.say("r1", "how?", output="so", thumb="up", user="ann")
    feedbacks.say("r2", "how?", output="so", correction="x", user="bob")
    feedbacks.say("r3", "why?", output="so", score=0.1, user="bob")
    feedbacks.client().post("/v1/review/feedback-r2/reject", json={"by": "rita", "note": "no"})
    rejected = ExampleRejectedV1(project="p", example_id="feedback-r2", by="rita", note="no")
    other = (
        Feedbacks("sqlite", tmp_path / "other")
        if False
        else _restored(feedbacks, [*feedbacks.emitted, rejected], tmp_path)
    )
    for table in ("example", "opinion"):
        assert _rows(other, table) == _rows(feedbacks.engine, table) != []
    other.dispose()


def _restored(feedbacks: Feedbacks, events: list[Event], home: Path) -> Engine:
    engine = open_engine(FeedbackSettings(home=home / "restored"))
    migrate(engine, "feedback", MIGRATIONS)
    with writing(engine) as connection, Session(connection, expire_on_commit=False) as session:
        store = SqlStore(session)
        for event in events:
            list(RESTORE.events[type(event)](event, new_meta(event, "urn:x", "1", time=NOW), store))
        session.flush()
    return engine


def _rows(engine: Engine, table: str) -> list[Any]:
    import json

    with engine.connect() as connection:
        rows = connection.exec_driver_sql(f'SELECT * FROM "{table}"').mappings().all()
    plain = [
        {
            k: json.loads(v) if k == "body" and isinstance(v, str) else bool(v) if k == "is_good" else v
            for k, v in row.items()
            if k != "said_at"
        }
        for row in rows
    ]
    return sorted(plain, key=lambda row: json.dumps(row, sort_keys=True, default=str))


def test_feedback_on_a_conversation_is_about_its_last_answer(feedbacks: Feedbacks) -> None:
    feedbacks.define(thumbs={"weight": 1})
    client = feedbacks.client()
    said = {"project": "p", "conversation": "c1", "thumb": "up"}
    early = client.post("/v1/feedback", json=said)
    assert (early.status_code, early.json()["error"]["code"]) == (409, "conversation_not_known_yet")
    feedbacks.answered("r2", NOW, "c1", "one", "two")
    feedbacks.answered("r1", NOW - timedelta(seconds=1), "c1", "one")
    feedbacks.answered("r3", NOW + timedelta(seconds=1), "c2", "other")
    given = client.post("/v1/feedback", json=said)
    assert given.status_code == 202
    shown = client.get(f"/v1/feedback/{given.json()['signal_id']}").json()
    assert (shown["request_id"], [e["source"] for e in shown["examples"]]) == ("r2", ["thumbs"])
    neither = client.post("/v1/feedback", json={"thumb": "up"}).json()
    assert "request_id" in str(neither)
    assert client.post("/v1/feedback", json={**said, "request_id": "r2"}).status_code == 422


def test_nobody_becomes_many_by_asking_in_many_words(feedbacks: Feedbacks) -> None:
    """A person who says the same of answers to n questions counts 1/n on each, against one who says it once."""
    feedbacks.define(alike=100)
    for n in range(4):
        feedbacks.say(f"l{n}", f"wording {n}", output="Paris", correction="Lyon", user="mallory")
    feedbacks.say("r1", "wording 4", output="Paris", thumb="up", user="ann")
    feedbacks.say("m1", "wording 4", output="Paris", correction="Lyon", user="mallory")
    assert fates(feedbacks.say("m2", "wording 4", output="Paris", correction="Lyon", user="moll")) == [
        "released",
        "released",
    ]
    with feedbacks.store() as store:
        found = store.examples.get("feedback-m2")
        assert found is not None
        seen = store.examples.seen(found.example)
    assert (seen.agreeing, seen.weight, seen.contesting) == (2, pytest.approx(1.2), 1)


def test_answers_with_a_thumb_up_are_learnt_by_default(feedbacks: Feedbacks) -> None:
    feedbacks.define(approved={})
    [released] = feedbacks.say("r1", output="Paris", thumb="up", user="ann")
    assert isinstance(released, ExampleReleasedV1)
    assert (released.source, released.example_id) == ("approved", "approved-r1")
    assert feedbacks.say("r2", output="Paris", thumb="down", user="ann") == []


def test_a_teacher_s_answers_are_learnt_where_the_project_says_so(feedbacks: Feedbacks) -> None:
    def taught(n: int, **more: Any) -> list[Event]:
        event = InferenceCompletedV1(
            project="p",
            request_id=f"t{n}",
            model=ModelRef(name="p", version=0),
            endpoint="chat.completions",
            messages=({"role": "user", "content": f"question {n}"},),
            user="ann",
            output=f"answer {n}",
            **more,
        )
        with feedbacks.store() as store:
            return list(handlers.on_inference_completed(event, new_meta(event, "urn:x", "1", time=NOW), store))

    teacher = TeacherAnswer(model="big", host="teacher.example")
    feedbacks.define()
    assert taught(1, teacher=teacher) == []
    feedbacks.define(2, teacher={"weight": 1, "per_user": 1})
    [released] = taught(2, teacher=teacher)
    assert isinstance(released, ExampleReleasedV1)
    assert (released.source, released.example_id, released.teacher) == ("teacher", "teacher-t2", teacher.model)
    assert taught(3, teacher=teacher) == [], "what is over a cap is not learnt, and waits for nobody"
    assert taught(4) == [], "the project's own model answered"
    assert taught(5, teacher=teacher, status="error") == []
    feedbacks.define(3, wait="1h", teacher={"weight": 1, "per_user": 1})
    assert fates(taught(6, teacher=teacher)) == ["wait"]
    assert fates(feedbacks.settle(NOW + timedelta(hours=1))) == ["rejected"], "nor after its wait"


def test_who_says_both_contests_nobody(feedbacks: Feedbacks) -> None:
    """A person may approve an answer once and correct it another time: that is no dispute among people."""
    feedbacks.define()
    feedbacks.say("r1", "how?", output="so", thumb="up", user="ann")
    assert fates(feedbacks.say("r2", "how?", output="so", correction="thus", user="ann")) == ["released"]
