"""Calls whose log events come in several exports: as they are put together, kept, redacted and given up."""

import asyncio
import json
from collections.abc import Iterator
from concurrent.futures import ThreadPoolExecutor
from datetime import UTC, datetime, timedelta
from itertools import permutations
from pathlib import Path
from typing import Any

import pytest
from fastapi import FastAPI
from fastapi.testclient import TestClient
from sqlalchemy import text
from sqlmodel import Session

from contracts.envelope import Meta
from contracts.events.registry import ProjectDefinedV1
from contracts.project import Ingest, ProjectSpec
from contracts.records import RecordInvalid
from services.chassis.context import Context
from services.chassis.http import guard
from services.chassis.http.application import answer, install_errors
from services.chassis.observability.metrics import Metrics
from services.chassis.storage.artifacts import open_store
from services.chassis.storage.database import open_engine, reading, writing
from services.chassis.storage.migration import migrate
from services.ingestion import handlers, joining, parts_store
from services.ingestion.domain.policy import Policy
from services.ingestion.domain.traces import parts, records
from services.ingestion.domain.traces.parts import Part
from services.ingestion.domain.traces.spans import Span
from services.ingestion.http import make_router
from services.ingestion.settings import IngestionSettings
from services.ingestion.store import SqlStore
from tests.unit.ingestion.test_ingestion_handlers import MIGRATIONS, NOW
from tests.unit.ingestion.test_ingestion_http import sent

LOGS = "/v1/projects/p/v1/logs"
TRACE, SPAN = "5b8efff798038103d269b633813fc60c", "eee19b7ec3c1b174"
SYSTEM: Any = (1, "gen_ai.system.message", {"content": "Be brief."})
USER: Any = (2, "gen_ai.user.message", {"content": "Größe?"})
LONG, SHORT = ("It is XL.", "XL")
TURNS: Any = [{"role": "system", "content": "Be brief."}, {"role": "user", "content": "Größe?"}]


def choice(index: int, content: str, at: int = 3) -> Any:
    return (at + index, "gen_ai.choice", {"index": index, "message": {"role": "assistant", "content": content}})


FIRST, SECOND = choice(0, LONG), choice(1, SHORT)
ANSWERED = [[*TURNS, {"role": "assistant", "content": content}] for content in (LONG, SHORT)]


# --- putting together ---------------------------------------------------------------------------------------------


def span(*events: Any, **resource: str) -> Span:
    told = tuple((name, said) for _, name, said in events)
    about = {name.replace("_", "."): value for name, value in resource.items()}
    return Span(TRACE, SPAN, {}, about, told, items=len(events), times=tuple(at for at, _, _ in events))


def made(*found: Part) -> list[tuple[str, Any]]:
    submitted = records.submissions(parts.joined(TRACE, SPAN, found), "p")
    return [(each.record_id.removeprefix(f"otel-{TRACE}-{SPAN}"), each.record["messages"]) for each in submitted]


def test_a_call_is_the_same_in_whatever_parts_and_order_its_events_come() -> None:
    whole = made(parts.part_of(span(SYSTEM, USER, FIRST, SECOND)))
    assert whole == [("", ANSWERED[0]), ("-1", ANSWERED[1])]
    for order in permutations([SYSTEM, USER, FIRST, SECOND]):
        assert made(*(parts.part_of(span(event)) for event in order)) == whole
        assert made(parts.part_of(span(*order[:2])), parts.part_of(span(*order[2:]))) == whole


def test_an_answer_has_its_own_place_though_it_comes_first() -> None:
    found = [parts.part_of(span(SYSTEM, USER)), parts.part_of(span(SECOND))]
    assert made(*found) == [("-1", ANSWERED[1])]


def test_an_event_that_stands_in_two_exports_is_one_and_one_that_was_said_twice_is_two() -> None:
    again = (1, *USER[1:])
    found = [parts.part_of(span(again, again, FIRST)), parts.part_of(span(again, FIRST))]
    [(_, messages)] = made(*found)
    assert [turn["content"] for turn in messages] == ["Größe?", "Größe?", LONG]


def test_what_asks_or_answers_alone_is_not_whole() -> None:
    question, reply = (parts.part_of(span(event)) for event in (USER, FIRST))
    assert [parts.is_whole(found) for found in ([question], [reply], [reply, question])] == [False, False, True]
    assert parts.is_whole([question, Part({}, refused=("holds_pii", ""))]), "it is refused at once"


def test_events_without_contents_or_ids_and_events_of_a_whole_call_are_no_parts() -> None:
    assert parts.is_part(span(USER))
    assert not parts.is_part(span((1, "gen_ai.user.message", {}), (2, "gen_ai.choice", {"message": {"role": "x"}})))
    assert not parts.is_part(Span("0" * 32, SPAN, {}, events=span(USER).events))
    details = (1, "gen_ai.client.inference.operation.details", {"gen_ai.input.messages": "[]"})
    assert not parts.is_part(span(USER, details))
    assert not parts.is_part(span((1, "", {"content": "a line of a log"})))
    assert parts.is_part(span((1, "gen_ai.choice", {"gen_ai.event.content": '{"cut o'}))), "told, though it is cut off"


def test_of_a_part_only_what_a_record_is_made_of_is_kept() -> None:
    given = (1, "gen_ai.user.message", {"content": "hi", "server.address": "10.9.8.7"})
    part = parts.part_of(span(given, (2, "other", {"content": "x"}), service_name="shop", host_name="h"))
    assert (part.events, part.resource, part.items) == (
        ((1, given[1], {"content": "hi"}),),
        {"service.name": "shop"},
        2,
    )
    assert parts.from_text(parts.as_text(part)) == part


def test_a_call_without_bounds_is_refused() -> None:
    long = (1, "gen_ai.user.message", {"content": "x" * parts.CALL_BYTES})
    with pytest.raises(RecordInvalid) as refused:
        made(parts.part_of(span(long)), parts.part_of(span(FIRST)))
    assert refused.value.code == "too_large"


def let_in(policy: Policy, *events: Any, **resource: str) -> Part:
    return parts.let_in(parts.part_of(span(*events, **resource)), "p", policy)


def test_redacted_parts_hold_no_value_and_have_one_number_for_one_value(monkeypatch: pytest.MonkeyPatch) -> None:
    redact = Policy(pii="redact")
    ask = (1, "gen_ai.user.message", {"content": "I am ann@example.org or bob@example.org"})
    found = [
        let_in(redact, ask, user_id="ann@example.org"),
        let_in(redact, choice(0, "Hello cy@example.org and ann@example.org"), user_id="ann@example.org"),
    ]
    assert "example.org" not in "".join(map(parts.as_text, found))
    joined = parts.joined(TRACE, SPAN, found)
    [record] = records.submissions(joined, "p")
    messages: Any = record.record["messages"]
    assert [turn["content"] for turn in messages] == [
        "I am <EMAIL_ADDRESS_1> or <EMAIL_ADDRESS_2>",
        "Hello <EMAIL_ADDRESS_3> and <EMAIL_ADDRESS_1>",
    ]
    assert (record.subject or "").startswith("subject-")
    monkeypatch.setattr(parts, "KEY", b"of another process")
    later = let_in(redact, choice(0, "Hello cy@example.org and ann@example.org"), user_id="ann@example.org")
    assert parts.identity(later) == parts.identity(found[1]) != parts.identity(found[0])
    [(_, messages)] = made(found[0], later)
    assert messages[-1]["content"] == "Hello <EMAIL_ADDRESS_3> and <EMAIL_ADDRESS_4>", "no value stands for another"


@pytest.mark.parametrize(
    ("policy", "reason"), [(Policy(pii="drop"), "holds_pii"), (Policy(require_consent=True), "no_consent")]
)
def test_of_a_part_that_the_policy_refuses_nothing_is_kept_and_the_call_is_refused(policy: Policy, reason: str) -> None:
    part = let_in(policy, (1, "gen_ai.user.message", {"content": "I am ann@example.org"}))
    assert "ann" not in parts.as_text(part)
    assert part.refused is not None
    assert part.refused[0] == reason
    with pytest.raises(RecordInvalid) as refused:
        made(parts.part_of(span(USER)), part, parts.part_of(span(FIRST)))
    assert refused.value.code == reason
    assert let_in(policy, USER, noria_tag_consent="yes").refused is None


# --- the route ----------------------------------------------------------------------------------------------------


@pytest.fixture
def context(database_url: str, tmp_path: Path) -> Iterator[Context[SqlStore]]:
    made = opened(database_url, tmp_path)
    migrate(made.engine, "ingestion", MIGRATIONS)
    define(made, "1", Ingest())
    yield made
    made.engine.dispose()


def opened(url: str, home: Path) -> Context[SqlStore]:
    settings = IngestionSettings(home=home, database=url)
    return Context(settings, open_engine(settings), SqlStore, open_store(settings), Metrics("ingestion"))


def define(context: Context[SqlStore], id: str, ingest: Ingest) -> None:
    with writing(context.engine) as connection, Session(connection) as session:
        spec = ProjectSpec(project="p", base="b", ingest=ingest)
        event = ProjectDefinedV1(project="p", revision=id * 64, spec=spec, sequence=int(id))
        list(handlers.on_project_defined(event, Meta(id, "urn:test", "", NOW), SqlStore(session)))
        session.flush()


def door(context: Context[SqlStore]) -> TestClient:
    app = FastAPI()
    install_errors(app)
    guard.install(app, guard.Guard(context.settings), answer, make_router(context))
    return TestClient(app)


def any_value(value: Any) -> dict[str, Any]:
    if isinstance(value, dict):
        return {"kvlistValue": {"values": [{"key": k, "value": any_value(v)} for k, v in value.items()]}}
    return {"intValue": str(value)} if isinstance(value, int) else {"stringValue": value}


def export(client: TestClient, *events: Any, span_id: str = SPAN) -> Any:
    told = [
        {"traceId": TRACE, "spanId": span_id, "eventName": name, "body": any_value(said), "observedTimeUnixNano": at}
        for at, name, said in events
    ]
    body = {"resourceLogs": [{"scopeLogs": [{"logRecords": told}]}]}
    given = client.post(LOGS, content=json.dumps(body), headers={"content-type": "application/json"})
    assert given.status_code == 200, given.text
    return given.json().get("partialSuccess", {}).get("errorMessage")


def found(context: Context[SqlStore]) -> list[tuple[str, Any]]:
    values = [value for _, value in sent(context)]
    return [(v["record_id"].removeprefix(f"otel-{TRACE}-{SPAN}"), v["record"]["messages"]) for v in values]


def stored(context: Context[SqlStore]) -> str:
    with reading(context.engine) as connection:
        return "".join(connection.execute(text("SELECT told FROM part")).scalars())


def counted(context: Context[SqlStore], *outcomes: str) -> list[float]:
    metrics = context.metrics.registry
    return [metrics.get_sample_value("noria_ingestion_otlp_total", {"outcome": name}) or 0 for name in outcomes]


@pytest.mark.parametrize("order", [(0, 1), (1, 0)])
def test_two_exports_of_one_call_are_its_record_also_after_a_restart(
    context: Context[SqlStore], order: tuple[int, int], database_url: str, tmp_path: Path
) -> None:
    halves = [(SYSTEM, USER), (FIRST,)]
    assert export(door(context), *halves[order[0]]) is None
    assert export(door(context), *halves[order[0]]) is None, "an exporter that heard no answer"
    assert found(context) == []
    assert counted(context, "waiting", "repeated") == [len(halves[order[0]])] * 2
    later = opened(database_url, tmp_path)
    for _ in range(2):
        assert export(door(later), *halves[order[1]]) is None
        assert export(door(later), *halves[order[0]]) is None
    assert found(later) == [("", ANSWERED[0])], "once, whatever comes again"
    assert counted(later, "taken", "waiting") == [1, 0]
    later.engine.dispose()


def test_a_later_answer_is_one_more_record(context: Context[SqlStore]) -> None:
    for events in ((SYSTEM, USER), (FIRST,), (SECOND,)):
        assert export(door(context), *events) is None
    assert found(context) == [("", ANSWERED[0]), ("-1", ANSWERED[1])]
    assert export(door(context), SYSTEM, USER, FIRST, span_id="0" * 15 + "1") is None
    assert export(door(context), SECOND, span_id="0" * 15 + "1") is None
    assert [messages for _, messages in found(context)] == ANSWERED * 2, "the question is known, though it was answered"


def test_what_two_instances_are_sent_at_once_is_not_lost(context: Context[SqlStore]) -> None:
    client = door(context)
    sends = [(half, f"{n:016x}") for n in range(1, 41) for half in ((SYSTEM, USER), (FIRST,))]
    with ThreadPoolExecutor(8) as pool:
        assert set(pool.map(lambda send: export(client, *send[0], span_id=send[1]), sends)) == {None}
    assert len(found(context)) == 40


def test_nothing_that_the_policy_hides_is_kept(context: Context[SqlStore]) -> None:
    define(context, "2", Ingest(pii="redact"))
    assert export(door(context), (1, "gen_ai.user.message", {"content": "I am ann@example.org"})) is None
    assert "<EMAIL_ADDRESS_1>" in stored(context)
    assert "ann@" not in stored(context)
    assert export(door(context), choice(0, "Hello ann@example.org")) is None
    [(_, messages)] = found(context)
    assert [turn["content"] for turn in messages] == ["I am <EMAIL_ADDRESS_1>", "Hello <EMAIL_ADDRESS_1>"]


def test_a_call_of_which_a_part_is_dropped_is_no_record(context: Context[SqlStore]) -> None:
    define(context, "2", Ingest(pii="drop"))
    assert export(door(context), SYSTEM) is None
    said = export(door(context), (2, "gen_ai.user.message", {"content": "I am ann@example.org"}))
    assert said.startswith("1 holds_pii; first: trace ")
    assert "ann" not in said + stored(context)
    assert export(door(context), FIRST).startswith("1 holds_pii"), "and not the record of the system's turn alone"
    assert found(context) == []


def test_parts_whose_rest_does_not_come_are_given_up_as_what_they_were(context: Context[SqlStore]) -> None:
    export(door(context), SYSTEM, USER)
    export(door(context), FIRST, span_id="0" * 15 + "1")
    export(door(context), SYSTEM, USER, FIRST, span_id="0" * 15 + "2")
    now = datetime.now(UTC)
    assert asyncio.run(joining.give_up(context, now - timedelta(minutes=1))) == 0
    assert stored(context)
    assert asyncio.run(joining.give_up(context, now + timedelta(minutes=1))) == 3
    assert stored(context) == ""
    assert counted(context, "ignored", "no_content", "waiting", "taken") == [2, 1, 3, 1]


def test_the_service_gives_up_by_itself(
    database_url: str, tmp_path: Path, context: Context[SqlStore], monkeypatch: pytest.MonkeyPatch
) -> None:
    export(door(context), SYSTEM, USER)
    monkeypatch.setattr(context.settings, "otlp_waiting_seconds", 0.05)

    async def look() -> None:
        task = asyncio.create_task(joining.keep_giving_up(context))
        async with asyncio.timeout(20):
            while await asyncio.to_thread(stored, context):  # noqa: ASYNC110 - another loop's work
                await asyncio.sleep(0.01)
        task.cancel()

    asyncio.run(look())
    assert counted(context, "ignored") == [2]


@pytest.mark.parametrize("bound", ["bytes", "number"])
def test_beyond_a_projects_bound_the_settled_and_the_oldest_are_given_up(
    context: Context[SqlStore], monkeypatch: pytest.MonkeyPatch, bound: str
) -> None:
    size = len(parts.as_text(parts.part_of(span(USER))))
    monkeypatch.setattr(parts_store, "NUMBER", 5 if bound == "number" else 1000)
    settled = len(parts.as_text(parts.part_of(span(USER, FIRST))))
    most = 4 * size + settled if bound == "bytes" else 1 << 30
    monkeypatch.setattr(context.settings, "otlp_waiting_bytes", most)
    client = door(context)
    for n in range(1, 7):
        events = (USER, FIRST) if n == 4 else (USER,)
        assert export(client, *events, span_id="0" * 15 + str(n)) is None
    with reading(context.engine) as connection:
        left = sorted(call[-1] for call in connection.execute(text("SELECT call FROM part")).scalars())
    assert left == (["1", "2", "3", "5", "6"] if bound == "bytes" else ["2", "3", "5", "6"])
    assert counted(context, "ignored") == [5 - len(left)]
