"""A judge behind a real HTTP port that does everything wrong: what becomes of its verdicts, what is kept, what it may cost."""

import json
import os
import signal
import subprocess
import sys
import time
from collections.abc import Iterator
from datetime import UTC, datetime, timedelta
from pathlib import Path
from typing import Any

import pytest
from sqlalchemy import Engine, update
from sqlmodel import col, select

from contracts.judge import Judge
from services.chassis.storage.database import open_engine, reading, writing
from services.chassis.storage.migration import migrate
from services.evaluator.judge import client
from services.evaluator.judge.asking import GIVE_UP, Tally, ask_all
from services.evaluator.judge.ledger import SqlLedger
from services.evaluator.judge.question import Pair, both_orders, key
from services.evaluator.settings import EvaluatorSettings
from services.evaluator.store import JudgeCallRow
from tests.scripted_endpoint import Act, Endpoint, Request, endpoint, fails, hangs_up
from tests.unit.evaluator.conftest import MIGRATIONS

PRICE = {"prompt": 1000.0, "completion": 10_000.0}
"""Of 10 and 2 tokens: 0.03."""


def says(text: Any, counted: bool = True, **more: Any) -> Act:
    """A whole answer with this text."""
    content = text if isinstance(text, str) else json.dumps(text)
    body: dict[str, Any] = {"choices": [{"index": 0, "message": {"role": "assistant", "content": content}, **more}]}
    if counted:
        body["usage"] = {"prompt_tokens": 10, "completion_tokens": 2}
    return lambda request: request.whole(200, body)


def waits(request: Request) -> None:
    """Says nothing until the test ends."""
    request.endpoint.gate.wait(30)


FIRST = says({"reason": "x", "better": "A"})


@pytest.fixture
def port() -> Iterator[Endpoint]:
    with endpoint() as made:
        made.say(FIRST)
        yield made


@pytest.fixture
def engine(database_url: str, tmp_path: Path) -> Iterator[Engine]:
    made = open_engine(EvaluatorSettings(home=tmp_path, database=database_url))
    migrate(made, "evaluator", MIGRATIONS)
    yield made
    made.dispose()


def judge(port: Endpoint, **more: Any) -> Judge:
    given = {"url": port.url, "model": "large-1", "rubric": "Be right.", "in_flight": 1, "retries": 0, "price": PRICE}
    return Judge.model_validate(given | more)


def questions(judge: Judge, count: int) -> dict[str, Any]:
    pairs = [Pair(f"r{n}", f"question {n}", "one", "other") for n in range(count)]
    return {key(judge, body): body for pair in pairs for body in both_orders(pair, judge)}


def asked(engine: Engine, judge: Judge, count: int = 1, project: str = "shop", why: str | None = None) -> Tally:
    steps: list[int] = []
    with client.open_client() as http:
        tally = ask_all(
            questions(judge, count),
            judge,
            SqlLedger(engine, project),
            lambda body: client.ask(http, judge, "sk-4711-secret", body),
            steps.append,
            why,
        )
    assert steps == sorted(steps)
    return tally


def rows(engine: Engine) -> list[Any]:
    with reading(engine) as connection:
        return list(connection.execute(select(JudgeCallRow)).all())


def test_a_verdict_is_asked_for_once_and_what_it_cost_is_told(engine: Engine, port: Endpoint) -> None:
    made = judge(port)
    first = asked(engine, made, 2)
    assert (list(first.wins.values()), first.calls, first.cached) == ([1.0] * 4, 4, 0)
    assert (first.prompt_tokens, first.completion_tokens, first.cost) == (40, 8, pytest.approx(0.12))
    path, headers, _ = port.requests[0]
    assert (path, headers["authorization"]) == ("/v1/chat/completions", "Bearer sk-4711-secret")
    again = asked(engine, made, 3, project="other")
    assert (again.calls, again.cached, len(again.wins)) == (2, 4, 6)
    assert len(port.requests) == 6
    assert asked(engine, judge(port, rubric="Be brief."), 1).calls == 2


@pytest.mark.parametrize(
    ("act", "code"),
    [
        (fails(429), "busy"),
        (fails(500), "failed"),
        (fails(400), "refused"),
        (hangs_up, "broken_off"),
        (lambda r: r.whole(200, b"<html>"), "nonsense"),
        (lambda r: r.whole(200, ["no"]), "nonsense"),
        (lambda r: r.whole(200, {"choices": [{"message": {"content": None}}]}), "nonsense"),
        (lambda r: r.whole(200, {"choices": [], "usage": 3}), "nonsense"),
        (lambda r: r.whole(200, b"[" * 200_000), "nonsense"),
        (lambda r: r.whole(200, b"x" * 1_100_000), "nonsense"),
        (says("I cannot judge."), "nonsense"),
        (lambda r: r.whole(200, b'{"cut', content_length="999"), "broken_off"),
    ],
)
def test_what_is_no_verdict_is_counted_and_another_question_is_answered(
    engine: Engine, port: Endpoint, act: Act, code: str
) -> None:
    port.say(act, FIRST)
    tally = asked(engine, judge(port))
    assert (len(tally.wins), tally.failures, tally.calls, tally.ended) == (1, {code: 1}, 2, None)


@pytest.mark.parametrize("act", [fails(500), fails(503), fails(429, retry_after="0"), hangs_up])
def test_what_may_pass_is_tried_again_as_often_as_the_project_says(engine: Engine, port: Endpoint, act: Act) -> None:
    port.say(act, act, FIRST)
    tally = asked(engine, judge(port, retries=2))
    assert (len(tally.wins), sum(tally.failures.values()), tally.calls) == (2, 2, 4)


def test_who_wants_to_be_left_alone_for_long_is(engine: Engine, port: Endpoint) -> None:
    port.say(fails(429, retry_after="77"), FIRST)
    tally = asked(engine, judge(port, retries=5))
    assert (len(tally.wins), len(port.requests)) == (1, 2)


def test_nonsense_is_asked_once_more_in_other_words(engine: Engine, port: Endpoint) -> None:
    port.say(says("Both are fine."), says({"better": "B"}), says("no"), says("no"), FIRST)
    tally = asked(engine, judge(port, retries=3), 2)
    assert list(tally.wins.values()) == [0.0, 1.0, 1.0]
    assert port.requests[1][2]["messages"][2]["content"] == "Both are fine."
    assert tally.failures == {"nonsense": 3}  # the second question's two are all that it gets
    assert tally.cost == pytest.approx(6 * 0.03)  # nonsense costs as much


def test_an_answer_that_trickles_is_cut_off(engine: Engine, port: Endpoint) -> None:
    def trickles(request: Request) -> None:
        request.send_response(200)
        request.send_header("content-length", "999999")
        request.end_headers()
        while not port.gate.wait(0.02):
            request.wfile.write(b" ")

    port.say(trickles, FIRST)
    began = time.monotonic()
    tally = asked(engine, judge(port, timeout="300ms"))
    assert time.monotonic() - began < 5
    assert (tally.failures, len(tally.wins)) == ({"silent": 1}, 1)
    assert tally.cost > 0.03  # it may have worked for it


def test_a_judge_that_fails_in_a_row_is_left_alone(engine: Engine, port: Endpoint) -> None:
    port.say(fails(500, "boom"))
    tally = asked(engine, judge(port), 20)
    assert (len(port.requests), tally.wins) == (GIVE_UP, {})
    assert tally.ended is not None
    assert "5 times in a row, last failed: 500: boom" in tally.ended


@pytest.mark.parametrize(("status", "said"), [(401, "unauthorised"), (404, "unknown"), (302, "redirects")])
def test_a_fault_that_lasts_ends_the_asking(engine: Engine, port: Endpoint, status: int, said: str) -> None:
    port.say(fails(status, "the key sk-4711-secret is wrong", location=f"{port.url}/elsewhere"))
    tally = asked(engine, judge(port, retries=3), 20)
    assert (len(port.requests), port.followed) == (1, [])
    assert said in (tally.ended or "")


def test_a_silent_judge_ends_with_its_time(engine: Engine, port: Endpoint) -> None:
    port.say(waits)
    began = time.monotonic()
    tally = asked(engine, judge(port, timeout="200ms", within="500ms", retries=9, in_flight=3), 9)
    assert time.monotonic() - began < 5
    assert "the time for the judge" in (tally.ended or "")


def test_nobody_listens(engine: Engine, port: Endpoint) -> None:
    tally = asked(engine, judge(port, url="http://127.0.0.1:9/v1"))
    assert (tally.failures, tally.cost) == ({"unreachable": 2}, 0)


def test_why_it_cannot_be_asked_is_told_but_not_where_all_is_known(engine: Engine, port: Endpoint) -> None:
    made = judge(port)
    assert asked(engine, made, 1, why="no host").ended == "no host"
    assert port.requests == []
    asked(engine, made, 1)
    known = asked(engine, made, 1, why="no host")
    assert (known.ended, len(known.wins)) == (None, 2)


def test_the_budget_of_a_day_is_not_passed_and_begins_anew(engine: Engine, port: Endpoint) -> None:
    """The most that a request can cost, 512 tokens of answer, has to be left; 0.03 is what it comes to."""
    made = judge(port, budget=6.0, in_flight=4)
    most = 512 / 100 + 0.4
    tally = asked(engine, made, 60)
    spent = sum(row.cost for row in rows(engine))
    assert 6.0 - most - 4 * 0.5 < spent <= 6.0
    assert spent == pytest.approx(tally.cost)
    assert tally.ended == "the budget of 6 USD a day for the judge is spent"
    assert asked(engine, made, 61, project="other").calls > 0  # a budget is a project's own
    with writing(engine) as connection:
        moment = datetime.now(UTC) - timedelta(days=1)
        connection.execute(update(JudgeCallRow).where(col(JudgeCallRow.project) == "shop").values(asked_at=moment))
    assert asked(engine, made, 62).calls > 0


def test_so_many_requests_a_day_and_no_more(engine: Engine, port: Endpoint) -> None:
    tally = asked(engine, judge(port, calls=3, price=None, in_flight=3), 5)
    assert (tally.calls, len(port.requests)) == (3, 3)
    assert tally.ended == "the 3 requests a day to the judge are used up"
    assert asked(engine, judge(port, calls=3, price=None, rubric="other"), 5).calls == 0


KILLED = """
import sys, json
from tests.unit.evaluator.test_judge_asking import *
from sqlalchemy import create_engine
port = Endpoint(sys.argv[2])
asked(open_engine(EvaluatorSettings(database=sys.argv[1])), judge(port, in_flight=2, budget=float(sys.argv[3])), 10)
"""


def test_kill_9_loses_no_verdict_and_no_spending(tmp_path: Path, port: Endpoint) -> None:
    """Killed while the fifth and sixth answers are awaited: four verdicts are kept, and two requests count at their most."""
    url = f"sqlite:///{tmp_path}/evaluator.db"
    engine = open_engine(EvaluatorSettings(home=tmp_path, database=url))
    migrate(engine, "evaluator", MIGRATIONS)
    port.say(FIRST, FIRST, FIRST, FIRST, waits)
    process = subprocess.Popen(
        [sys.executable, "-c", KILLED, url, port.url, "1000"], env={**os.environ, "PYTHONPATH": "."}
    )
    deadline = time.monotonic() + 60
    while len(port.requests) < 6 and time.monotonic() < deadline:
        time.sleep(0.02)
    while sum(row.win is not None for row in rows(engine)) < 4 and time.monotonic() < deadline:
        time.sleep(0.02)
    process.send_signal(signal.SIGKILL)
    process.wait()
    kept = rows(engine)
    assert (len(kept), sum(row.win is not None for row in kept)) == (6, 4)
    assert sum(row.cost > 5 for row in kept) == 2
    port.say(FIRST)
    before = sum(row.cost for row in kept)
    spent_up = asked(engine, judge(port, in_flight=2, budget=before + 1), 10)
    assert (spent_up.cached, spent_up.calls) == (4, 0)
    tally = asked(engine, judge(port, in_flight=2, budget=1000.0), 10)
    assert (tally.cached, tally.calls, len(tally.wins)) == (4, 16, 20)
    engine.dispose()
