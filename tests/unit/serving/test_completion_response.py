"""The order of an answer: model, record, last byte; and what a client sees where one of them fails."""

import asyncio
import json
import time
from collections.abc import AsyncGenerator
from pathlib import Path
from typing import Any

import pytest

from contracts.events.serving import InferenceCompletedV1
from services.serving import completion_response
from services.serving.admission import admit
from services.serving.completion_response import CompletionResponse
from services.serving.domain.asked import Asked
from services.serving.domain.errors import Invalid, Overloaded, Unavailable
from services.serving.domain.fair_queue import Flow
from services.serving.domain.reconcile import Loaded
from services.serving.domain.requests import parse_completion
from services.serving.domain.responses_request import parse_responses
from services.serving.domain.routing import build
from services.serving.runtime import Runtime
from services.serving.settings import ServingSettings
from services.serving.triton import client
from services.serving.triton.client import Chunk
from services.serving.turns import Turns
from tests.unit.serving.builders import TemplatesHere, chat, target

Sent = list[dict[str, Any]]
NOWHERE: Any = object()
ANSWER = (Chunk("a", None, 5, 1), Chunk("b", "stop", 5, 2))


class Gateway:
    """A runtime whose records and bytes are written down in their order."""

    def __init__(self, tmp_path: Path, monkeypatch: pytest.MonkeyPatch, *answer: Chunk | Exception) -> None:
        self.order: list[str] = []
        self.records: list[InferenceCompletedV1] = []
        self.sent: Sent = []
        self.fault: Exception | None = None
        self.runtime = Runtime(ServingSettings(home=tmp_path), up=True, triton=NOWHERE, record=self.record)
        here: Any = TemplatesHere()
        self.runtime.templates = here
        self.runtime.routes = build([target()], {"shop": 1}, ["shop"])
        self.runtime.loaded = {target().triton_model: Loaded()}
        self.hold: asyncio.Event | None = None
        self.begun, self.leaves = asyncio.Event(), False
        self.reads, self.silent = True, False

        async def generate(*_: Any, **__: Any) -> AsyncGenerator[Chunk]:
            for piece in () if self.silent else answer or ANSWER:
                if isinstance(piece, Exception):
                    raise piece
                yield piece
            if self.hold:
                await self.hold.wait()

        monkeypatch.setattr(client, "generate", generate)

    async def record(self, event: InferenceCompletedV1) -> None:
        self.order.append("record")
        if self.fault:
            raise self.fault
        self.records.append(event)

    async def send(self, message: Any) -> None:
        self.order.append(message["type"].removeprefix("http.response."))
        self.sent.append(message)
        if self.leaves:
            self.begun.set()
        if not self.reads and message.get("body"):
            await asyncio.Event().wait()

    def ask(self, extra: str = "", leaves: bool = False, asked: Asked | None = None) -> str:
        """The body of the answer; with `leaves` the client hangs up once it has its first byte."""
        self.leaves = leaves

        async def receive() -> dict[str, Any]:
            await self.begun.wait()
            return {"type": "http.disconnect"}

        async def run() -> None:
            calls, triton = await admit(self.runtime, asked or chat(extra), "", time.perf_counter())
            await CompletionResponse(self.runtime, calls, triton)({"type": "http"}, receive, self.send)

        asyncio.run(run())
        return b"".join(m.get("body", b"") for m in self.sent).decode()

    @property
    def status(self) -> int:
        return self.sent[0]["status"]


def test_a_format_that_no_answer_fits_is_refused_before_the_model_is_asked(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    desk = Gateway(tmp_path, monkeypatch)
    with pytest.raises(Invalid, match="guided_regex: the regex cannot be enforced") as refused:
        desk.ask(',"guided_regex":"[^\\\\s\\\\S]"')
    assert (refused.value.status, refused.value.param, desk.order) == (400, "guided_regex", [])


def test_a_whole_answer_leaves_after_its_record(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    desk = Gateway(tmp_path, monkeypatch)
    assert json.loads(desk.ask())["choices"][0]["message"]["content"] == "ab"
    assert desk.order == ["record", "start", "body"]
    assert (desk.records[0].status, desk.records[0].output, desk.runtime.in_flight) == ("ok", "ab", 0)


def test_a_streams_end_leaves_after_its_record(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    desk = Gateway(tmp_path, monkeypatch)
    assert desk.ask(',"stream":true').endswith("data: [DONE]\n\n")
    assert desk.order == ["start", "body", "body", "record", "body"]


def test_several_choices_are_one_answer_and_a_record_each(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    desk = Gateway(tmp_path, monkeypatch)
    body = json.loads(desk.ask(',"n":3'))
    assert [(c["index"], c["message"]["content"]) for c in body["choices"]] == [(0, "ab"), (1, "ab"), (2, "ab")]
    assert body["usage"] == {"prompt_tokens": 5, "completion_tokens": 6, "total_tokens": 11}
    assert {r.request_id for r in desk.records} == {body["id"], f"{body['id']}-1", f"{body['id']}-2"}
    assert desk.order == ["record"] * 3 + ["start", "body"]
    assert desk.runtime.in_flight == 0


@pytest.mark.parametrize("stream", [False, True])
def test_an_echo_alone_has_no_token_of_the_models(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, stream: bool
) -> None:
    read = tuple({str(i): {"logprob": -1.0 if i else None, "decoded_token": t, "rank": 1}} for i, t in enumerate("hi"))
    made = ({"7": {"logprob": -0.5, "decoded_token": "a", "rank": 1}},)
    desk = Gateway(tmp_path, monkeypatch, Chunk("a", "stop", 2, 1, made, read))
    asked = {"model": "shop", "prompt": "hi", "max_tokens": 0, "echo": True, "logprobs": 0, "stream": stream}
    asked |= {"stream_options": {"include_usage": True}} if stream else {}
    body = desk.ask(asked=parse_completion(json.dumps(asked).encode()))
    told = [json.loads(line[6:]) for line in body.split("\n\n") if line.startswith("data: {")] or [json.loads(body)]
    choices = [choice for each in told for choice in each["choices"]]
    assert "".join(choice["text"] for choice in choices) == "hi"
    assert [t for c in choices if c["logprobs"] for t in c["logprobs"]["tokens"]] == ["h", "i"]
    assert (choices[-1]["finish_reason"], told[-1]["usage"]["completion_tokens"]) == ("length", 0)
    assert (desk.records[0].output, desk.records[0].completion_tokens) == ("", 0)


def test_several_choices_stream_side_by_side(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    desk = Gateway(tmp_path, monkeypatch)
    body = desk.ask(',"n":2,"stream":true,"stream_options":{"include_usage":true}')
    *events, usage, done = [line.removeprefix("data: ") for line in body.strip().split("\n\n")]
    choices = [json.loads(e)["choices"][0] for e in events]
    for index in (0, 1):
        own = [c for c in choices if c["index"] == index]
        assert own[0]["delta"]["role"] == "assistant"
        assert "".join(c["delta"].get("content", "") for c in own) == "ab"
        assert [c["finish_reason"] for c in own][-1] == "stop"
    assert (json.loads(usage)["usage"]["total_tokens"], done) == (9, "[DONE]")


def test_a_choice_that_fails_fails_the_request(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    desk = Gateway(tmp_path, monkeypatch, Chunk("a", None, 5, 1), client.Failed("boom"))
    body = json.loads(desk.ask(',"n":2'))
    assert (desk.status, body["error"]["code"]) == (503, "model_failed")
    assert len(desk.records) == 2


SCORED = {
    "5": {"logprob": -0.5, "rank": 2, "decoded_token": "é"},
    "9": {"logprob": -0.1, "rank": 1, "decoded_token": "b"},
}


@pytest.mark.parametrize("extra", ["", ',"stream":true'])
def test_logprobs_have_openais_shape(tmp_path: Path, monkeypatch: pytest.MonkeyPatch, extra: str) -> None:
    """The second token's text waits for more, so its score comes with the last chunk."""
    answer = (Chunk("é", None, 5, 1, (SCORED,)), Chunk("", None, 5, 2, (SCORED,)), Chunk("", "stop", 5, 2))
    body = Gateway(tmp_path, monkeypatch, *answer).ask(',"logprobs":true,"top_logprobs":1' + extra)
    if extra:
        events = [json.loads(e.removeprefix("data: ")) for e in body.strip().split("\n\n")[:-1]]
        told = [c["choices"][0]["logprobs"] for c in events]
        entries = [entry for each in told if each for entry in each["content"]]
    else:
        entries = json.loads(body)["choices"][0]["logprobs"]["content"]
    one = {"token": "é", "logprob": -0.5, "bytes": [195, 169]}
    assert entries == [one | {"top_logprobs": [{"token": "b", "logprob": -0.1, "bytes": [98]}]}] * 2


def test_an_answer_that_cannot_be_recorded_is_not_given(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    desk = Gateway(tmp_path, monkeypatch)
    desk.fault = OSError(28, "No space left on device")
    body = json.loads(desk.ask())
    assert (desk.status, body["error"]["code"]) == (503, "record_unavailable")
    assert "No space left" in (desk.runtime.record_fault or "")
    with pytest.raises(Unavailable, match="No space left"):
        asyncio.run(admit(desk.runtime, chat(), "", 0.0))


def test_a_stream_that_cannot_be_recorded_ends_as_an_error(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    desk = Gateway(tmp_path, monkeypatch)
    desk.fault = OSError(28, "No space left on device")
    body = desk.ask(',"stream":true')
    assert "[DONE]" not in body
    assert json.loads(body.split("data: ")[-1])["error"]["code"] == "record_unavailable"


@pytest.mark.parametrize(
    ("fault", "status", "code", "suspected"),
    [
        (client.BadRequest("the prompt has 9 tokens and (max_model_len) is 8"), 400, "context_length_exceeded", False),
        (client.BadRequest("LoRA shop-v1 is not supported"), 503, "model_failed", True),
        (client.Unavailable("gone"), 503, "triton_unavailable", True),
        (client.ModelNotReady("Stub process is not healthy"), 503, "triton_unavailable", True),
        (client.Failed("boom"), 503, "model_failed", True),
    ],
)
def test_tritons_faults_are_told(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, fault: Exception, status: int, code: str, suspected: bool
) -> None:
    desk = Gateway(tmp_path, monkeypatch, fault)
    body = json.loads(desk.ask())
    assert (desk.status, body["error"]["code"]) == (status, code)
    assert (desk.records[0].status, bool(desk.runtime.suspects)) == ("error", suspected)
    assert (b"retry-after" in dict(desk.sent[0]["headers"])) == (status == 503)


def test_a_fault_in_the_middle_of_a_stream_is_its_last_event(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    desk = Gateway(tmp_path, monkeypatch, ANSWER[0], client.Failed("boom"))
    body = desk.ask(',"stream":true')
    assert desk.status == 200
    assert json.loads(body.split("data: ")[-1])["error"]["code"] == "model_failed"
    assert (desk.records[0].output, desk.records[0].status) == ("a", "error")


def response(extra: str = "") -> Asked:
    return parse_responses(f'{{"model":"shop","input":"hi"{extra}}}'.encode())


def test_a_response_leaves_after_its_record(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    desk = Gateway(tmp_path, monkeypatch)
    body = json.loads(desk.ask(asked=response()))
    assert (body["object"], body["output"][0]["content"][0]["text"]) == ("response", "ab")
    assert (desk.order, desk.records[0].output) == (["record", "start", "body"], "ab")


def test_a_responses_stream_ends_after_its_record(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    desk = Gateway(tmp_path, monkeypatch)
    told = [
        json.loads(event.split("data: ")[1]) for event in desk.ask(asked=response(',"stream":true')).split("\n\n")[:-1]
    ]
    assert (told[0]["type"], told[-1]["type"]) == ("response.created", "response.completed")
    assert told[-1]["response"]["usage"]["total_tokens"] == 7
    assert desk.order == ["start", "body", "body", "record", "body"]


def test_a_responses_stream_that_fails_says_so_twice(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    desk = Gateway(tmp_path, monkeypatch, ANSWER[0], client.Failed("boom"))
    *_, error, failed = desk.ask(asked=response(',"stream":true')).split("data: ")
    assert json.loads(error.split("\n")[0])["error"]["code"] == "model_failed"
    body = json.loads(failed)["response"]
    assert (body["status"], body["output"][0]["content"][0]["text"]) == ("failed", "a")
    assert (desk.records[0].output, desk.records[0].status) == ("a", "error")


def test_an_answer_without_an_end_is_an_error(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    desk = Gateway(tmp_path, monkeypatch, ANSWER[0])
    assert json.loads(desk.ask())["error"]["code"] == "answer_broken_off"


@pytest.mark.parametrize("extra", ["", ',"stream":true'])
def test_an_answer_whose_model_is_lost_before_its_first_token_says_so(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, extra: str
) -> None:
    """Whatever becomes of the cancellation's own message: grpc raises one anew."""
    desk = Gateway(tmp_path, monkeypatch)

    async def generate(*_: Any, **__: Any) -> AsyncGenerator[Chunk]:
        desk.runtime.restarts[target().triton_model] += 1
        try:
            await asyncio.Event().wait()
        except asyncio.CancelledError:
            raise asyncio.CancelledError from None
        yield ANSWER[0]

    monkeypatch.setattr(client, "generate", generate)
    monkeypatch.setattr(completion_response, "_LOOK", 0.01)
    assert json.loads(desk.ask(extra))["error"]["code"] == "answer_broken_off"
    assert (desk.status, desk.records[0].status) == (503, "error")


def test_a_client_that_leaves_is_recorded_as_cancelled(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    desk = Gateway(tmp_path, monkeypatch, ANSWER[0])
    desk.hold = asyncio.Event()
    desk.ask(',"stream":true', leaves=True)
    assert [(r.status, r.output) for r in desk.records] == [("cancelled", "a")]
    assert desk.runtime.in_flight == 0


@pytest.mark.parametrize(
    ("change", "code"),
    [
        ({"up": False}, "triton_unavailable"),
        ({"loaded": {}}, "model_loading"),
        ({"loaded": {target().triton_model: Loaded(healthy=False)}}, "model_loading"),
        ({"turns": Turns(0, lambda _: 1)}, "overloaded"),
        ({"stopping": True}, "stopping"),
        ({"record": None}, "record_unavailable"),
    ],
    ids=lambda value: value if isinstance(value, str) else next(iter(value)),
)
def test_what_cannot_be_answered_now_is_not_begun(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, change: dict[str, Any], code: str
) -> None:
    desk = Gateway(tmp_path, monkeypatch)
    for name, value in change.items():
        setattr(desk.runtime, name, value)
    with pytest.raises(Unavailable) as raised:
        desk.ask()
    assert (raised.value.code, desk.records) == (code, [])


def limited(desk: Gateway, **seconds: float) -> None:
    desk.runtime.settings = desk.runtime.settings.model_copy(update=seconds)


@pytest.mark.parametrize(
    ("limit", "answer", "code", "status"),
    [
        ("first_token_seconds", (), "model_silent", "error"),
        ("silence_seconds", ANSWER[:1], "model_silent", "error"),
        ("answer_seconds", ANSWER[:1], "answer_too_long", "cancelled"),
    ],
)
@pytest.mark.parametrize("stream", ["", ',"stream":true'])
def test_each_deadline_ends_an_answer_and_what_there_was_is_recorded(
    tmp_path: Path,
    monkeypatch: pytest.MonkeyPatch,
    limit: str,
    answer: tuple[Chunk, ...],
    code: str,
    status: str,
    stream: str,
) -> None:
    desk = Gateway(tmp_path, monkeypatch, *answer)
    desk.hold, desk.silent = asyncio.Event(), not answer
    limited(desk, **{limit: 0.05})
    body = desk.ask(stream)
    assert json.loads(body.split("data: ")[-1])["error"]["code"] == code
    assert [(r.status, r.output) for r in desk.records] == [(status, "a" * len(answer))]
    assert desk.runtime.turns.at_work == 0


def test_a_client_that_reads_nothing_is_cut_and_its_row_is_free(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    desk = Gateway(tmp_path, monkeypatch)
    desk.reads = False
    limited(desk, reader_seconds=0.05)
    desk.ask(',"stream":true')
    assert [(r.status, r.output, (r.error or "").split(":")[0]) for r in desk.records] == [
        ("cancelled", "a", "reader_stalled")
    ]
    assert (desk.runtime.turns.at_work, desk.runtime.in_flight) == (0, 0)
    assert desk.order == ["start", "body", "record"]


def test_a_request_waits_for_its_turn_and_not_for_ever(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    desk = Gateway(tmp_path, monkeypatch)
    rows = desk.runtime.settings.max_sequences + 1
    held = [desk.runtime.turns.join(target().triton_model, Flow("other", str(n)), 9, 9, 30) for n in range(rows)]
    limited(desk, waiting_seconds=0.05)
    assert json.loads(desk.ask())["error"]["code"] == "waited_too_long"
    assert desk.records[0].status == "error"
    desk.runtime.turns.leave(held[0])
    desk.sent.clear()
    desk.begun = asyncio.Event()
    assert json.loads(desk.ask())["choices"][0]["message"]["content"] == "ab"


def test_a_model_that_was_lost_while_a_request_waited_is_not_asked(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    desk = Gateway(tmp_path, monkeypatch)
    calls, triton = asyncio.run(admit(desk.runtime, chat(), "", time.perf_counter()))
    desk.runtime.loaded.clear()

    async def run() -> None:
        await CompletionResponse(desk.runtime, calls, triton)({"type": "http"}, asyncio.Event().wait, desk.send)  # type: ignore[arg-type]

    asyncio.run(run())
    assert json.loads(desk.sent[-1]["body"])["error"]["code"] == "model_loading"


def test_who_would_wait_too_long_is_refused_before_a_template_is_asked(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    desk = Gateway(tmp_path, monkeypatch)
    desk.runtime.turns = Turns(100, lambda _: 1, lambda _: 1.0)
    for n in range(3):
        desk.runtime.turns.join(target().triton_model, Flow("other", str(n)), 90, 9, 300)
    unasked: Any = object()
    desk.runtime.templates = unasked
    with pytest.raises(Overloaded):
        asyncio.run(admit(desk.runtime, chat(), "", time.perf_counter()))


TOOLS = ',"tools":[{"type":"function","function":{"name":"f"}}]'
CALL = '<tool_call>{"name":"f","arguments":{"a":1}}</tool_call>'


@pytest.mark.parametrize("stream", [False, True])
def test_a_call_leaves_as_a_call_and_is_recorded_as_it_was_written(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, stream: bool
) -> None:
    desk = Gateway(tmp_path, monkeypatch, Chunk(CALL[:30], None, 5, 1), Chunk(CALL[30:], "stop", 5, 2))
    body = desk.ask(TOOLS + f',"stream":{json.dumps(stream)}')
    if stream:
        choices = [json.loads(line[6:])["choices"][0] for line in body.split("\n\n")[:-2]]
        calls = [call for choice in choices for call in choice["delta"].get("tool_calls", [])]
        reason = choices[-1]["finish_reason"]
    else:
        (choice,) = json.loads(body)["choices"]
        calls, reason = choice["message"]["tool_calls"], choice["finish_reason"]
    assert (calls[0]["function"]["name"], "".join(c["function"]["arguments"] for c in calls)) == ("f", '{"a":1}')
    assert reason == "tool_calls"
    assert (desk.records[0].output, desk.records[0].finish_reason) == (CALL, "stop")
    assert desk.records[0].parameters["tools"][0]["function"]["name"] == "f"
