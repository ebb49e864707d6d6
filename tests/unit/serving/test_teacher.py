"""A project's teacher, asked over real HTTP through the gateway's own routes: what the client sees, what is recorded."""

import json
from collections.abc import Callable, Iterator
from pathlib import Path
from typing import Any

import httpx
import openai
import pytest

from tests.scripted_endpoint import (
    Endpoint,
    Request,
    answer,
    delta,
    endpoint,
    fails,
    hangs_up,
    usage,
)
from tests.unit.serving.taught_gateway import USER, Taught, gateway

Make = Callable[..., Taught]
TOOL = {"type": "function", "function": {"name": "weather", "parameters": {"type": "object", "properties": {}}}}
QUICK = {"timeout": {"connect": "1s", "first_token": "300ms", "next_token": "300ms"}}


@pytest.fixture
def teacher() -> Iterator[Endpoint]:
    with endpoint() as made:
        made.say(answer("hel", "lo"))
        yield made


@pytest.fixture
def make(teacher: Endpoint, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Iterator[Make]:
    from contextlib import ExitStack

    with ExitStack() as stack:

        def start(**more: Any) -> Taught:
            return stack.enter_context(gateway(tmp_path, teacher, monkeypatch, **more))

        yield start


def test_the_teacher_answers_as_the_project_and_is_recorded_with_its_cost(make: Make, teacher: Endpoint) -> None:
    made = make()
    raw = made.openai.chat.completions.with_raw_response.create(model="shop", messages=USER, user="u1", temperature=0.5)
    said = raw.parse()
    assert (said.model, said.choices[0].message.content, said.choices[0].finish_reason) == ("shop", "hello", "stop")
    assert said.usage is not None
    assert (said.usage.prompt_tokens, said.usage.completion_tokens) == (100, 20)
    assert raw.headers["x-noria-model-version"] == "teacher"
    (path, headers, sent), (event,) = teacher.requests[0], made.records
    assert path == "/v1/chat/completions"
    assert "authorization" not in {name.lower() for name in headers}
    assert sent == {
        "model": "large-1",
        "messages": [{"role": "system", "content": "Be brief."}, *USER],
        "stream": True,
        "stream_options": {"include_usage": True},
        "max_tokens": 64,
        "temperature": 0.5,
    }
    assert (event.request_id, event.model.version, event.prompt_version, event.user) == (said.id, 0, 3, "u1")
    assert (event.output, event.status, event.prompt_tokens, event.completion_tokens) == ("hello", "ok", 100, 20)
    assert event.teacher is not None
    assert event.teacher.model_dump() == {
        "model": "large-1",
        "host": teacher.url.split("/")[2],
        "cost": pytest.approx(0.0004),
        "currency": "USD",
        "estimated": False,
        "attempts": 1,
    }
    assert made.count("teacher_cost_total", project="shop", currency="USD") == pytest.approx(0.0004)


def test_a_stream_passes_piece_by_piece(make: Make, teacher: Endpoint) -> None:
    """The second piece is sent only once the client has the first."""

    def slow(request: Request) -> None:
        def events() -> Iterator[Any]:
            yield delta("one ")
            assert teacher.gate.wait(10)
            yield delta("two", finish="length")
            yield usage()

        request.stream(events())

    teacher.say(slow)
    made = make()
    stream = made.ask(stream=True, stream_options={"include_usage": True})
    texts: list[str] = []
    last: Any = None
    for chunk in stream:
        if chunk.choices and chunk.choices[0].delta.content:
            texts.append(chunk.choices[0].delta.content)
            teacher.gate.set()
        last = chunk
    assert texts == ["one ", "two"]
    assert last.usage.total_tokens == 120
    assert (made.records[0].finish_reason, made.records[0].stream) == ("length", True)


CALLS = (
    delta(role="assistant", content=None),
    delta(tool_calls=[{"index": 0, "id": "a", "function": {"name": "weather", "arguments": ""}}]),
    delta(tool_calls=[{"index": 0, "function": {"arguments": '{"city": '}}]),
    delta(tool_calls=[{"index": 0, "function": {"arguments": '"Bern"}'}}]),
    delta(tool_calls=[{"index": 1, "id": "b", "function": {"name": "weather", "arguments": ""}}]),
    delta(finish="tool_calls"),
)


@pytest.mark.parametrize("stream", [False, True])
def test_calls_of_tools_pass(make: Make, teacher: Endpoint, stream: bool) -> None:
    teacher.say(lambda request: request.stream([*CALLS, usage()]))
    made = make()
    said = made.ask(tools=[TOOL], stream=stream, tool_choice="required")
    calls: dict[int, list[str]] = {}
    if stream:
        chunks = [chunk.choices[0] for chunk in said]
        reason = chunks[-1].finish_reason
        for call in [call for choice in chunks for call in choice.delta.tool_calls or ()]:
            calls.setdefault(call.index, []).append((call.function.name or "") + (call.function.arguments or ""))
    else:
        reason = said.choices[0].finish_reason
        calls = {
            n: [call.function.name, call.function.arguments]
            for n, call in enumerate(said.choices[0].message.tool_calls)
        }
    assert reason == "tool_calls"
    assert {n: "".join(parts) for n, parts in calls.items()} == {0: 'weather{"city": "Bern"}', 1: "weather{}"}
    sent = teacher.requests[0][2]
    assert (sent["tools"], sent["tool_choice"]) == ([TOOL], {"type": "function", "function": {"name": "weather"}})
    assert '<tool_call>\n{"name": "weather", "arguments": {"city": "Bern"}}\n</tool_call>' in made.records[0].output


def test_a_whole_answer_of_the_teachers_is_read_too(make: Make, teacher: Endpoint) -> None:
    message = {"role": "assistant", "content": "hi", "tool_calls": None}
    whole = {**usage(7, 1), "choices": [{"index": 0, "message": message, "finish_reason": "stop"}]}
    teacher.say(lambda request: request.whole(200, whole))
    made = make()
    assert made.ask().choices[0].message.content == "hi"
    assert made.records[0].prompt_tokens == 7


def test_responses_and_completions_are_asked_too(make: Make, teacher: Endpoint) -> None:
    made = make()
    said = made.openai.responses.create(model="shop", input="hello", instructions="Shout.", max_output_tokens=5)
    assert (said.output_text, said.model) == ("hello", "shop")
    assert teacher.requests[0][2]["messages"] == [{"role": "system", "content": "Shout."}, *USER]
    assert teacher.requests[0][2]["max_tokens"] == 5
    text = {"choices": [{"index": 0, "text": "lo", "finish_reason": "stop"}]}
    teacher.say(lambda request: request.stream([text, usage()]))
    assert made.openai.completions.create(model="shop", prompt="hel").choices[0].text == "lo"
    path, _, sent = teacher.requests[1]
    assert (path, sent["prompt"]) == ("/v1/completions", "hel")
    assert "messages" not in sent


def test_what_the_endpoint_refuses_is_left_out(make: Make, teacher: Endpoint) -> None:
    made = make(length_parameter="max_completion_tokens", leave_out=["temperature", "stream_options"])
    made.ask(seed=3)
    sent = teacher.requests[0][2]
    assert (sent["max_completion_tokens"], sent["seed"]) == (64, 3)
    assert not {"max_tokens", "temperature", "stream_options"} & sent.keys()


def test_tokens_that_nobody_counted_are_estimated(make: Make, teacher: Endpoint) -> None:
    teacher.say(answer("x" * 40, counted=False))
    made = make()
    said = made.ask()
    assert (said.usage.prompt_tokens, said.usage.completion_tokens) == (4, 10)  # of 14 and 40 characters
    assert made.records[0].teacher is not None
    assert (made.records[0].teacher.estimated, made.records[0].teacher.cost) == (True, pytest.approx(0.000108))


def test_several_choices_are_asked_for_one_by_one(make: Make, teacher: Endpoint) -> None:
    made = make()
    said = made.ask(n=2, seed=5)
    assert [choice.message.content for choice in said.choices] == ["hello", "hello"]
    assert sorted(sent["seed"] for _, _, sent in teacher.requests) == [5, 6]
    assert len(made.records) == 2


# The key


def test_the_key_goes_to_the_teacher_and_nowhere_else(
    make: Make, teacher: Endpoint, tmp_path: Path, monkeypatch: pytest.MonkeyPatch, caplog: pytest.LogCaptureFixture
) -> None:
    secret = "sk-very-secret-4711"
    monkeypatch.setenv("NORIA_SECRET_LARGE", secret)
    made = make(key="LARGE", retries=0)
    caplog.set_level("DEBUG")
    made.ask()
    assert teacher.requests[0][1]["authorization"] == f"Bearer {secret}"
    breaks: Any = {"error": {"message": f"late {secret}"}}
    teacher.say(
        fails(400, f"the key {secret} may not"),
        fails(401, f"no {secret}"),
        fails(500, f"boom {secret}"),
        lambda request: request.stream([breaks]),
    )
    told = [httpx.post(f"{made.url}/v1/chat/completions", json={"model": "shop", "messages": USER}) for _ in range(4)]
    assert [each.status_code for each in told] == [400, 502, 502, 502]
    assert "LARGE" in told[1].json()["error"]["message"]
    everything = "".join([*(e.text for e in told), *(r.model_dump_json() for r in made.records), caplog.text])
    assert secret not in everything
    (tmp_path / "secrets").mkdir()
    (tmp_path / "secrets" / "LARGE").write_text("sk-from-a-file-0815\n")
    teacher.say(answer("x"))
    made.ask()
    assert teacher.requests[-1][1]["authorization"] == "Bearer sk-from-a-file-0815"


def test_no_other_variable_of_the_environment_is_a_secret(make: Make, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("OTHER", "x" * 20)
    made = make(key="OTHER")
    with pytest.raises(openai.InternalServerError, match="NORIA_SECRET_OTHER") as told:
        made.ask()
    assert (told.value.status_code, told.value.code) == (503, "teacher_key_missing")
    card = httpx.get(f"{made.url}/v1/models/shop")
    assert (card.status_code, card.json()["error"]["code"]) == (503, "teacher_key_missing")


# Where it may be


@pytest.mark.parametrize("hosts", ["", "api.example.com", "127.0.0.1", "http://127.0.0.1:1"])
def test_a_host_that_the_operator_did_not_name_is_not_asked(make: Make, teacher: Endpoint, hosts: str) -> None:
    made = make(hosts=hosts)
    with pytest.raises(openai.InternalServerError, match="NORIA_SERVING_TEACHER_HOSTS") as told:
        made.ask()
    assert (told.value.status_code, told.value.code, teacher.requests) == (503, "teacher_not_allowed", [])


def test_a_redirect_is_not_followed(make: Make, teacher: Endpoint) -> None:
    teacher.say(lambda request: request.whole(302, {}, location=teacher.url + "/elsewhere"))
    made = make(retries=0)
    with pytest.raises(openai.InternalServerError) as told:
        made.ask()
    assert (told.value.status_code, told.value.code) == (502, "teacher_redirects")
    assert teacher.followed == []


# What goes wrong


def code(made: Taught, **more: Any) -> tuple[int, str, str | None]:
    """(status, error's code, Retry-After) of a request."""
    body = {"model": "shop", "messages": USER, **more}
    told = httpx.post(f"{made.url}/v1/chat/completions", json=body, timeout=20)
    return told.status_code, told.json()["error"]["code"], told.headers.get("retry-after")


def hangs(request: Request) -> None:
    request.endpoint.gate.wait(20)


def half(request: Request) -> None:
    """A stream that stops in its middle, its connection open."""
    request.stream([delta("half")], done=False)
    request.endpoint.gate.wait(20)


@pytest.mark.parametrize(
    ("act", "status", "said"),
    [
        (hangs, 503, "teacher_silent"),
        (half, 503, "teacher_silent"),
        (
            lambda r: r.stream([": still here\n\n"] * 3 + [delta(role="assistant")], done=False),
            502,
            "teacher_broken_off",
        ),
        (lambda r: r.stream([delta("half")], done=False), 502, "teacher_broken_off"),
        (lambda r: r.stream([delta("half"), {"error": {"message": "overheated"}}]), 502, "teacher_failed"),
        (fails(500), 502, "teacher_failed"),
        (fails(429), 429, "teacher_busy"),
        (fails(404), 502, "teacher_failed"),
        (fails(400), 400, "teacher_refused"),
        (hangs_up, 503, "teacher_unreachable"),
        (lambda r: r.whole(200, b"<html>nonsense</html>", content_type="text/html"), 502, "teacher_nonsense"),
        (lambda r: r.whole(200, b"{"), 502, "teacher_nonsense"),
        (lambda r: r.whole(200, ["no"]), 502, "teacher_nonsense"),
        (lambda r: r.whole(200, {"choices": [{"message": {"content": 7}}]}), 502, "teacher_nonsense"),
        (lambda r: r.stream(["data: nonsense\n\n"]), 502, "teacher_nonsense"),
        (lambda r: r.stream(["data: " + "x" * 2_100_000 + "\n\n"]), 502, "teacher_nonsense"),
        (lambda r: r.whole(200, {}, content_encoding="gzip"), 502, "teacher_nonsense"),
    ],
)
def test_a_fault_is_told_in_openais_shape(make: Make, teacher: Endpoint, act: Any, status: int, said: str) -> None:
    teacher.say(act)
    made = make(retries=0, **QUICK)
    assert code(made)[:2] == (status, said)
    (event,) = made.records
    assert (event.status, (event.error or "").partition(":")[0]) == ("error", said)
    assert event.teacher is not None
    assert event.teacher.attempts == 1
    if event.output:  # it is paid for
        assert (event.output, event.teacher.cost) == ("half", pytest.approx(0.000018))
    if said != "teacher_refused":
        assert made.count("teacher_failures_total", code=said) == 1


def test_a_stream_that_breaks_ends_with_an_error_event(make: Make, teacher: Endpoint) -> None:
    teacher.say(lambda request: request.stream([delta("half")], done=False))
    made = make()
    told: list[str] = []
    stream = made.ask(stream=True)
    with pytest.raises(openai.APIError, match="broke off"):
        told.extend(chunk.choices[0].delta.content or "" for chunk in stream)
    assert "".join(told) == "half"
    assert len(teacher.requests) == 1  # never again behind the first byte
    assert (made.records[0].output, made.records[0].status) == ("half", "error")


@pytest.mark.parametrize("act", [fails(500), fails(503), fails(429, retry_after="0"), hangs_up])
def test_what_may_pass_is_tried_again_before_the_first_byte(make: Make, teacher: Endpoint, act: Any) -> None:
    teacher.say(act, act, answer("at last"))
    made = make(retries=2)
    assert made.ask().choices[0].message.content == "at last"
    assert made.records[0].teacher is not None
    assert made.records[0].teacher.attempts == len(teacher.requests) == 3


def test_no_more_tries_than_the_project_says(make: Make, teacher: Endpoint) -> None:
    teacher.say(fails(500))
    made = make(retries=1)
    assert code(made)[0] == 502
    assert len(teacher.requests) == 2


def test_a_teacher_that_wants_to_be_left_alone_for_long_is(make: Make, teacher: Endpoint) -> None:
    teacher.say(fails(429, retry_after="77"))
    made = make()
    assert code(made) == (429, "teacher_busy", "77")
    assert len(teacher.requests) == 1


def test_a_port_that_nobody_listens_on_is_told(make: Make) -> None:
    made = make(url="http://127.0.0.1:9/v1", hosts="http://127.0.0.1:9", retries=0)
    assert code(made)[:2] == (503, "teacher_unreachable")


# In its place


def test_an_open_circuit_lets_the_base_answer_until_the_teacher_does_again(make: Make, teacher: Endpoint) -> None:
    teacher.say(fails(500))
    made = make(retries=0, breaker={"failures": 2, "pause": "500ms"})
    assert [code(made)[1] for _ in range(2)] == ["teacher_failed"] * 2
    raw = made.openai.chat.completions.with_raw_response.create(model="shop", messages=USER)
    assert (raw.headers["x-noria-model-version"], raw.parse().choices[0].message.content) == ("0", "own")
    assert made.records[-1].teacher is None
    assert made.count("teacher_fallbacks_total", code="teacher_circuit_open") == 1
    asked = len(teacher.requests)
    teacher.say(answer("back"))
    answers = iter(lambda: made.ask().choices[0].message.content, "back")
    assert set(answers) <= {"own"}
    assert made.ask().choices[0].message.content == "back"
    assert len(teacher.requests) == asked + 2


def test_without_a_base_an_open_circuit_is_told(make: Make, teacher: Endpoint) -> None:
    teacher.say(fails(500))
    made = make(version=None, retries=0, breaker={"failures": 1, "pause": "60s"})
    assert [code(made)[:2] for _ in range(2)] == [(502, "teacher_failed"), (503, "teacher_circuit_open")]
    assert code(made)[2] == "60"


def test_what_is_spent_lets_the_base_answer(make: Make, teacher: Endpoint) -> None:
    from datetime import UTC, datetime

    made = make(budget=0.0006)
    assert made.ask().choices[0].message.content == "own"  # nobody knows yet what was spent today
    assert made.count("teacher_fallbacks_total", code="teacher_budget_unknown") == 1
    made.runtime.teachers.spending.learn("shop", datetime.now(UTC).date(), 0.0, ())
    assert [made.ask().choices[0].message.content for _ in range(3)] == ["hello", "hello", "own"]
    assert made.count("teacher_fallbacks_total", code="teacher_budget_spent") == 1


def test_without_a_base_a_spent_budget_is_told(make: Make) -> None:
    from datetime import UTC, datetime

    made = make(version=None, budget=0.5)
    made.runtime.teachers.spending.learn("shop", datetime.now(UTC).date(), 0.5, ())
    status, said, after = code(made)
    assert (status, said) == (429, "teacher_budget_spent")
    assert 0 < int(after or 0) <= 86_400


def test_a_promoted_version_answers_and_the_teacher_its_share(make: Make, teacher: Endpoint) -> None:
    made = make(version=1)
    assert [made.ask().choices[0].message.content for _ in range(3)] == ["own"] * 3
    assert teacher.requests == []
    assert made.ask(model="shop@teacher").choices[0].message.content == "hello"
    names = [model.id for model in made.openai.models.list()]
    assert names[:3] == ["shop", "shop@1", "shop@teacher"]
    assert httpx.get(f"{made.url}/v1/models/shop").json()["root"] == "shop@1"


def test_a_share_of_one_is_the_teachers(make: Make) -> None:
    made = make(version=1, share=1.0)
    assert made.ask().choices[0].message.content == "hello"
    assert made.ask(model="shop@1").choices[0].message.content == "own"


def test_what_a_teacher_cannot_do_the_base_does(make: Make, teacher: Endpoint) -> None:
    made = make()
    assert made.ask(logprobs=True).choices[0].message.content == "own"
    assert made.ask(extra_body={"top_k": 3}).choices[0].message.content == "own"
    assert made.count("teacher_fallbacks_total", code="teacher_cannot") == 2
    assert teacher.requests == []


def test_the_card_says_that_the_teacher_answers(make: Make) -> None:
    made = make(version=None)
    card = httpx.get(f"{made.url}/v1/models/shop").json()
    assert (card["root"], card["ready"]) == ("shop@teacher", True)


def test_what_is_not_to_be_kept_is_paid_for_all_the_same(make: Make) -> None:
    made = make()
    made.ask(store=False)
    assert (made.records[0].output, made.records[0].stored) == ("", False)
    assert made.records[0].teacher is not None
    assert json.loads(made.records[0].model_dump_json())["teacher"]["cost"] > 0
