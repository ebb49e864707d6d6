"""The pure rules about teachers: who answers, circuits, spending, hosts, reading an answer."""

from datetime import UTC, date, datetime
from typing import Any

import pytest

from contracts.project import Serve
from services.chassis.endpoints.failures import retry_after
from services.chassis.endpoints.hosts import host_of, is_allowed
from services.serving.domain.breaker import Circuit
from services.serving.domain.errors import ApiFault, ModelNotFound, TeacherAway, TeacherBusy, TeacherFailed
from services.serving.domain.routing import Routes, Target, build
from services.serving.domain.spending import Paid, Spending, day_of, seconds_left
from services.serving.domain.teacher_answer import TeacherReader
from services.serving.domain.teacher_routing import answerer
from tests.unit.serving.builders import target

SERVE = Serve.model_validate({"teacher": {"url": "https://a.example", "model": "m", "share": 0.25}})
TEACHER = target(version=0, serve=SERVE, teacher=SERVE.teacher)
BASE, ONE = target(version=0), target(version=1)
BUSY = TeacherBusy("spent", "teacher_budget_spent", 5)


def routes(*own: Target, production: int | None = None, teacher: bool = True) -> Routes:
    promoted = {} if production is None else {"shop": production}
    return build(own, promoted, ["shop"], teachers=[TEACHER] if teacher else [])


def who(
    routes: Routes, name: str = "shop", draw: float = 0.5, fault: ApiFault | None = None, ready: bool = True
) -> tuple[str, ApiFault | None]:
    found, why = answerer(routes, name, draw, lambda _: fault, lambda _: ready)
    return found.name, why


@pytest.mark.parametrize(
    ("table", "draw", "answers"),
    [
        (routes(BASE, teacher=False), 0.0, "shop@base"),
        (routes(), 0.99, "shop@teacher"),
        (routes(BASE), 0.99, "shop@teacher"),
        (routes(BASE, production=0), 0.99, "shop@teacher"),  # rolled back to the base: no version of its own serves
        (routes(BASE, ONE, production=1), 0.25, "shop@1"),
        (routes(BASE, ONE, production=1), 0.24, "shop@teacher"),
        (routes(BASE, ONE, production=1, teacher=False), 0.0, "shop@1"),
    ],
)
def test_the_teacher_answers_until_a_version_is_promoted_and_its_share_then(
    table: Routes, draw: float, answers: str
) -> None:
    assert who(table, draw=draw) == (answers, None)


def test_an_exact_name_is_who_it_names() -> None:
    table = routes(BASE, ONE, production=1)
    assert [who(table, name)[0] for name in ("shop@base", "shop@1", "shop@teacher")] == [
        "shop@base",
        "shop@1",
        "shop@teacher",
    ]
    with pytest.raises(ModelNotFound, match=r"serve\.teacher"):
        who(routes(BASE, teacher=False), "shop@teacher")
    with pytest.raises(TeacherBusy):
        who(table, "shop@teacher", fault=BUSY)


def test_what_hinders_the_teacher_lets_answer_what_is_there() -> None:
    assert who(routes(BASE), fault=BUSY) == ("shop@base", BUSY)
    assert who(routes(BASE, ONE, production=1), draw=0.0, fault=BUSY) == ("shop@1", BUSY)
    for table, ready in ((routes(), True), (routes(BASE), False)):
        with pytest.raises(TeacherBusy, match="spent"):
            who(table, fault=BUSY, ready=ready)


@pytest.mark.parametrize("code", ["teacher_not_allowed", "teacher_key_missing"])
def test_a_teacher_that_is_not_set_up_is_told_rather_than_passed_over(code: str) -> None:
    fault = TeacherAway("set it up", code)
    with pytest.raises(TeacherAway, match="set it up"):
        who(routes(BASE), fault=fault)
    assert who(routes(BASE, ONE, production=1), draw=0.0, fault=fault) == ("shop@1", fault)


def test_a_circuit_opens_after_failures_in_a_row_and_lets_one_try() -> None:
    circuit = Circuit()
    for _ in range(2):
        circuit = circuit.failed(10.0, 3, 30.0)
    assert circuit.succeeded().failures == 0
    assert circuit.enter(10.0, 30.0) is circuit
    circuit = circuit.failed(10.0, 3, 30.0)
    assert not circuit.is_closed
    assert circuit.enter(39.9, 30.0) is None
    tried = circuit.enter(40.0, 30.0)
    assert tried is not None
    assert tried.enter(40.0, 30.0) is None  # one alone
    assert tried.failed(41.0, 3, 30.0).enter(70.9, 30.0) is None
    assert tried.failed(41.0, 3, 30.0).enter(71.0, 30.0) is not None
    assert tried.enter(70.0, 30.0) is not None  # the one that tried said nothing: its client left
    assert tried.succeeded().enter(42.0, 30.0) == Circuit()


DAY = date(2026, 1, 31)


def test_what_is_spent_is_what_records_say_and_what_they_lack() -> None:
    spending = Spending()
    assert spending.of("shop", DAY) is None
    spending.pay(Paid("a", "shop", DAY, 1.0))
    spending.pay(Paid("b", "shop", DAY, 2.0))
    spending.pay(Paid("c", "bank", DAY, 4.0))
    assert spending.of("shop", DAY) is None
    spending.learn("shop", DAY, 10.0, ())
    assert spending.of("shop", DAY) == 13.0
    spending.learn("shop", DAY, 11.0, {"a"})
    assert spending.of("shop", DAY) == 13.0
    assert spending.waiting("shop") == ["b"]
    assert spending.of("shop", date(2026, 2, 1)) == 0.0
    assert spending.of("bank", DAY) is None


def test_a_day_ends_at_midnight_in_utc() -> None:
    moment = datetime.fromisoformat("2026-02-01T00:30:00+01:00")
    assert day_of(moment) == DAY
    assert seconds_left(moment) == 1800
    assert seconds_left(datetime(2026, 1, 31, 23, 59, 59, 999_999, tzinfo=UTC)) == 1


@pytest.mark.parametrize(
    ("url", "hosts", "allowed"),
    [
        ("https://api.example.com/v1", "other.example, api.example.com", True),
        ("https://API.example.com./v1", "api.example.com", True),
        ("https://api.example.com:443/v1", "api.example.com", True),
        ("https://api.example.com:8443/v1", "api.example.com:8443", True),
        ("http://127.0.0.1:9000/v1", "http://127.0.0.1:9000", True),
        ("https://[::1]:9000/v1", "https://[::1]:9000", True),
        ("https://api.example.com/v1", "", False),
        ("https://api.example.com/v1", ",", False),
        ("http://api.example.com/v1", "api.example.com", False),
        ("https://api.example.com/v1", "http://api.example.com", False),
        ("https://api.example.com:8443/v1", "api.example.com", False),
        ("https://api.example.com.evil.example/v1", "api.example.com", False),
        ("https://evil-api.example.com/v1", "api.example.com", False),
        ("http://169.254.169.254/latest", "169.254.169.254", False),
        ("https://api.example.com@evil.example/v1", "api.example.com", False),
    ],
)
def test_only_named_hosts_are_asked(url: str, hosts: str, allowed: bool) -> None:
    assert is_allowed(url, hosts) == allowed


def test_a_hosts_port_is_told_where_it_is_not_the_schemes_own() -> None:
    assert [host_of(url) for url in ("https://a.example:443/v1", "http://a.example:81")] == [
        "a.example",
        "a.example:81",
    ]


def test_waiting_is_told_in_seconds_or_as_a_moment() -> None:
    now = datetime(2026, 1, 31, 12, tzinfo=UTC)
    given = ["7", "0", "Sat, 31 Jan 2026 12:00:09 GMT", "Sat, 31 Jan 2026 11:00:00 GMT", "soon", "-5", None]
    assert [retry_after(each, now) for each in given] == [7.0, 0.0, 9.0, 0.0, None, None, None]


def read(*deltas: dict[str, Any], finish: str = "stop") -> str:
    reader = TeacherReader()
    given = [{"choices": [{"delta": d, "finish_reason": None}]} for d in deltas]
    end = {"choices": [{"delta": {}, "finish_reason": finish}]}
    return "".join(reader.take(each).text for each in [*given, end])


def call(index: int | None, name: str | None = None, arguments: str | None = None) -> dict[str, Any]:
    said = {"function": {"name": name, "arguments": arguments}} | ({} if index is None else {"index": index})
    return {"tool_calls": [said]}


ONE_CALL = '<tool_call>\n{"name": "f", "arguments": {"a": 1}}\n</tool_call>\n'


@pytest.mark.parametrize(
    ("deltas", "text"),
    [
        (({"content": "a"}, {"content": None}, {"content": "b"}), "ab"),
        ((call(0, "f", ""), call(0, None, '{"a":'), call(0, None, " 1}")), ONE_CALL),
        ((call(None, "f", '{"a": 1}'),), ONE_CALL),
        (({"content": "so"}, call(0, "f", '{"a": 1}'), {"content": "!"}), "so" + ONE_CALL + "!"),
        ((call(0, "f", '{"a": 1}'), call(1, "f", '{"a": 1}')), ONE_CALL * 2),
        ((call(0, "f"),), '<tool_call>\n{"name": "f", "arguments": {}}\n</tool_call>\n'),
        (({"refusal": "no"},), "no"),
        (({"reasoning_content": "hm"}, {"content": "a"}), "a"),
    ],
)
def test_an_answer_is_read_as_this_gateways_models_write(deltas: tuple[dict[str, Any], ...], text: str) -> None:
    assert read(*deltas) == text


@pytest.mark.parametrize(
    "deltas",
    [
        (call(0, "f"), call(1, "g"), call(0, None, "{}")),
        (call(0, None, "{}"),),
        ({"tool_calls": [7]},),
        ({"tool_calls": {}, "content": 5},),
        ({"content": "x" * 400_001},),
    ],
)
def test_what_cannot_be_read_is_told(deltas: tuple[dict[str, Any], ...]) -> None:
    with pytest.raises(TeacherFailed, match="cannot be read"):
        read(*deltas)


def test_why_it_ended_and_what_it_took() -> None:
    ends = {"stop": "stop", "tool_calls": "stop", "length": "length", "content_filter": "content_filter", "eos": "stop"}
    for given, told in ends.items():
        piece = TeacherReader().take({"choices": [{"delta": {}, "finish_reason": given}]})
        assert (piece.finish_reason, piece.usage) == (told, None)
    counted = {"choices": [], "usage": {"prompt_tokens": 3, "completion_tokens": 4}}
    usage = TeacherReader().take(counted).usage
    assert usage is not None
    assert usage.total == 7
    for wrong in ({"prompt_tokens": "3"}, {"prompt_tokens": -1}, {"prompt_tokens": True}, 5):
        assert TeacherReader().take({"choices": [], "usage": wrong}).usage is None
