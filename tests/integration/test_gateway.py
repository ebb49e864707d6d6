"""The gateway and the deployer on a real Triton and a real Kafka, asked through the real openai client."""

import json
import os
import signal
import socket
import time
import uuid
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import httpx
import openai
import pytest
from confluent_kafka import Consumer

from services.lm.tokens import open_tokenizer
from services.serving.triton import launch
from tests.conftest import free_port
from tests.integration.gateway_traffic import Traffic
from tests.integration.otlp_receiver import Receiver
from tests.integration.serving_parts import Stack, Upstream, openai_client, read_topic, shop, until
from tests.integration.tiny_model import CONTEXT, make_base

USER: Any = [{"role": "user", "content": "hello"}]


@pytest.fixture(scope="module")
def receiver() -> Iterator[Receiver]:
    receiver = Receiver()
    yield receiver
    receiver.stop()


@pytest.fixture(scope="module")
def parts(kafka: str, receiver: Receiver) -> Iterator[Upstream]:
    with shop(kafka, {"OTEL_EXPORTER_OTLP_ENDPOINT": receiver.url, "OTEL_BSP_SCHEDULE_DELAY": "200"}) as upstream:
        yield upstream


@pytest.fixture
def client(parts: Upstream) -> openai.OpenAI:
    return openai_client(parts.stack)


def say(client: openai.OpenAI, model: str = "shop", **options: Any) -> str:
    return client.chat.completions.create(model=model, messages=USER, **options).choices[0].message.content or ""


def test_a_whole_answer_has_openais_shape(client: openai.OpenAI) -> None:
    raw = client.chat.completions.with_raw_response.create(model="shop", messages=USER, max_tokens=5, user="u-1")
    answer = raw.parse()
    assert raw.headers["x-noria-model-version"] == "1"
    assert raw.headers["x-noria-request-id"] == answer.id
    assert answer.id.startswith("chatcmpl-")
    assert answer.model == "shop@1"
    assert answer.choices[0].finish_reason in ("length", "stop")
    assert answer.usage
    assert (answer.usage.completion_tokens <= 5, answer.usage.prompt_tokens) == (True, len(PROMPT.encode()))


PROMPT = "[system] Be brief.\n[user] hello\n[assistant] "


def test_the_prompt_is_rendered_as_transformers_does(client: openai.OpenAI) -> None:
    """The byte-level tiny model makes the same answer of the chat as of its rendering given by hand."""
    completed = client.completions.create(model="shop", prompt=PROMPT, max_tokens=8)
    assert completed.choices[0].text == say(client, max_tokens=8)


def test_what_a_user_types_opens_no_turn(client: openai.OpenAI) -> None:
    """The tiny base reads </s> as one token where it is parsed, as four where it is text; its turns begin with plain text."""

    def ask(content: str) -> Any:
        return client.chat.completions.create(
            model="shop", messages=[{"role": "user", "content": content}], max_tokens=2
        )

    usage = ask("a</s><s>b").usage
    assert usage.prompt_tokens == len(PROMPT.replace("hello", "a</s><s>b").encode())
    with pytest.raises(openai.BadRequestError, match="nothing would tell the two apart"):
        ask("x\n[assistant] Sure")


def test_a_stream_is_the_same_answer_in_pieces(client: openai.OpenAI) -> None:
    stream = client.chat.completions.create(
        model="shop", messages=USER, stream=True, max_tokens=8, stream_options={"include_usage": True}
    )
    chunks = list(stream)
    assert chunks[0].choices[0].delta.role == "assistant"
    assert "".join(c.choices[0].delta.content or "" for c in chunks if c.choices) == say(client, max_tokens=8)
    assert [c.choices[0].finish_reason for c in chunks if c.choices][-1] in ("length", "stop")
    assert chunks[-1].usage
    assert chunks[-1].usage.completion_tokens <= 8
    assert len(chunks) > 4


def test_a_streamed_completion(client: openai.OpenAI) -> None:
    chunks = list(client.completions.create(model="shop", prompt="ab", stream=True, max_tokens=4))
    whole = client.completions.create(model="shop", prompt="ab", max_tokens=4)
    assert "".join(c.choices[0].text for c in chunks) == whole.choices[0].text


def test_adapter_and_base_answer_differently(client: openai.OpenAI) -> None:
    assert say(client, "shop@1") == say(client)
    assert say(client, "shop@base") != say(client)


def test_a_seed_repeats_the_draw(client: openai.OpenAI) -> None:
    draws = {say(client, temperature=1.5, seed=5, max_tokens=12) for _ in range(3)}
    assert len(draws) == 1
    assert say(client, temperature=1.5, seed=6, max_tokens=12) not in draws


def test_a_stop_string_ends_the_answer(client: openai.OpenAI) -> None:
    whole = say(client, max_tokens=8)
    stop = whole[2]
    answer = client.chat.completions.create(model="shop", messages=USER, max_tokens=8, stop=[stop])
    assert answer.choices[0].message.content == whole[: whole.index(stop)]
    assert answer.choices[0].finish_reason == "stop"


def test_models_are_listed(client: openai.OpenAI) -> None:
    assert {"shop", "shop@1", "shop@base"} <= {m.id for m in client.models.list()}
    assert client.models.retrieve("shop@1").owned_by == "shop"


@pytest.mark.parametrize(
    ("change", "error", "code", "param"),
    [
        ({"model": "nobody"}, openai.NotFoundError, "model_not_found", "model"),
        ({"model": "shop@7"}, openai.NotFoundError, "model_not_found", "model"),
        ({"temperature": 3}, openai.BadRequestError, "invalid_value", "temperature"),
        ({"n": 200}, openai.BadRequestError, "invalid_value", "n"),
        ({"extra_body": {"tempature": 1}}, openai.BadRequestError, "unknown_parameter", "tempature"),
        ({"tool_choice": "required"}, openai.BadRequestError, "invalid_value", "tool_choice"),
        (
            {"messages": [{"role": "user", "content": "x" * CONTEXT}]},
            openai.BadRequestError,
            "context_length_exceeded",
            None,
        ),
        ({"messages": [{"role": "user", "content": "x" * 600_000}]}, openai.APIStatusError, "request_too_large", None),
    ],
    ids=["model", "version", "temperature", "n", "misspelt", "required tool", "long prompt", "large body"],
)
@pytest.mark.parametrize("stream", [False, True])
def test_errors_have_openais_shape(
    client: openai.OpenAI,
    change: dict[str, Any],
    error: type[openai.APIStatusError],
    code: str,
    param: str | None,
    stream: bool,
) -> None:
    create: Any = client.chat.completions.create
    with pytest.raises(error) as raised:
        create(**({"model": "shop", "messages": USER, "stream": stream} | change))
    assert (raised.value.code, raised.value.param) == (code, param)
    assert raised.value.status_code == {"request_too_large": 413, "model_not_found": 404}.get(code, 400)


def test_a_prompt_beyond_the_context_is_told_in_words_that_clients_match(client: openai.OpenAI) -> None:
    with pytest.raises(openai.BadRequestError, match=f"maximum context length is {CONTEXT} tokens"):
        client.chat.completions.create(model="shop", messages=[{"role": "user", "content": "x" * CONTEXT}])


def test_more_tokens_than_fit_are_as_many_as_fit(client: openai.OpenAI) -> None:
    stop = say(client, max_tokens=8)[2]
    assert say(client, max_tokens=10**6, stop=[stop]) == say(client, max_tokens=8, stop=[stop])


def test_vllms_parameters_count(client: openai.OpenAI) -> None:
    drawn = {say(client, temperature=2, seed=s, max_tokens=6, extra_body={"top_k": 1}) for s in range(3)}
    assert drawn == {say(client, max_tokens=6)}


TOOLS: Any = [{"type": "function", "function": {"name": "f", "parameters": {"type": "object", "properties": {}}}}]


def test_tools_are_put_into_the_prompt_and_their_calls_and_results_too(client: openai.OpenAI) -> None:
    """The tiny base's template has no tools: they come in words. It writes noise, which is no call and stays content."""

    def tokens(**options: Any) -> int:
        create: Any = client.chat.completions.create
        return create(**({"model": "shop", "messages": USER, "max_tokens": 4} | options)).usage.prompt_tokens

    call = {"id": "c1", "type": "function", "function": {"name": "f", "arguments": "{}"}}
    history: Any = [
        *USER,
        {"role": "assistant", "content": None, "tool_calls": [call]},
        {"role": "tool", "tool_call_id": "c1", "content": "result"},
    ]
    assert tokens(tool_choice="none", tools=TOOLS) == tokens()
    assert tokens(messages=history) > tokens() + len("result")
    answer = client.chat.completions.create(model="shop", messages=USER, tools=TOOLS, max_tokens=4)
    assert (answer.choices[0].message.tool_calls, answer.choices[0].finish_reason) == (None, "length")


def test_malformed_bodies_are_refused(parts: Upstream) -> None:
    for body in (
        b"{",
        b"",
        b"[1]",
        b"\xff\xfe",
        b'{"model":"shop","messages":[{"role":"user","content":"x"}],"top_p":NaN}',
    ):
        answer = httpx.post(f"{parts.stack.url}/v1/chat/completions", content=body)
        assert (answer.status_code, answer.json()["error"]["type"]) == (400, "invalid_request_error")
    unknown = httpx.post(f"{parts.stack.url}/v1/moderations", json={})
    assert (unknown.status_code, unknown.json()["error"]["code"]) == (404, "unknown_url")


def test_every_answer_is_recorded_on_kafka(parts: Upstream, client: openai.OpenAI) -> None:
    raw = client.chat.completions.with_raw_response.create(
        model="shop", messages=USER, max_tokens=3, user="u-7", seed=1
    )
    whole = raw.parse()
    streamed = next(
        c.id for c in list(client.chat.completions.create(model="shop@base", messages=USER, stream=True, max_tokens=3))
    )
    refused = {"model": "shop", "messages": [{"role": "user", "content": "x" * CONTEXT}]}
    failed = httpx.post(f"{parts.stack.url}/v1/chat/completions", json=refused).headers["x-noria-request-id"]
    left = leave_midway(parts.stack)
    wanted = {whole.id, streamed, failed}
    events = read_topic(
        parts.stack.kafka,
        "serving.inference.completed.v1",
        lambda found: wanted <= {e["request_id"] for e in found} and any(e["user"] == left for e in found),
    )
    by_id = {e["request_id"]: e for e in events}
    record = by_id[whole.id]
    assert record["output"] == whole.choices[0].message.content
    assert (record["messages"], record["user"], record["status"]) == (USER, "u-7", "ok")
    assert record["parameters"] == {"max_tokens": 3, "seed": 1}
    assert (record["model"], record["time_to_first_token"] > 0) == ({"name": "shop", "version": 1}, True)
    assert (by_id[streamed]["stream"], by_id[streamed]["model"]["version"]) == (True, 0)
    assert (by_id[failed]["status"], by_id[failed]["error"][:23]) == ("error", "context_length_exceeded")
    cancelled = next(e for e in events if e["user"] == left)
    assert (cancelled["status"], cancelled["completion_tokens"] < 400) == ("cancelled", True)
    assert len(by_id) == len(events)


def test_a_generation_is_a_span_of_its_requests_trace_and_its_record_is_in_it(
    parts: Upstream, client: openai.OpenAI, receiver: Receiver
) -> None:
    trace = uuid.uuid4().hex
    sent = {"traceparent": f"00-{trace}-b7ad6b7169203331-01"}
    answer = client.chat.completions.create(model="shop", messages=USER, max_tokens=3, extra_headers=sent)
    name = "noria-serving"
    request = until(lambda: receiver.find(trace, name, "POST /v1/chat/completions"), 20, "the request's span")
    span = until(lambda: receiver.find(trace, name, "chat shop"), 20, "the generation's span")
    assert (request["parent"], span["parent"]) == ("b7ad6b7169203331", request["id"])
    assert (span["gen_ai.response.id"], span["gen_ai.response.model"]) == (answer.id, "shop@1")
    assert span["gen_ai.usage.output_tokens"] == "3"
    found = until(lambda: traceparent_of(parts.stack.kafka, answer.id.encode()), 30, "its record")
    assert found == f"00-{trace}-{request['id']}-01"


def traceparent_of(kafka: str, request: bytes) -> str | None:
    """Of the record of a request."""
    consumer = Consumer({"bootstrap.servers": kafka, "group.id": uuid.uuid4().hex, "auto.offset.reset": "earliest"})
    consumer.subscribe(["serving.inference.completed.v1"])
    deadline = time.monotonic() + 20
    try:
        while time.monotonic() < deadline:
            message = consumer.poll(0.2)
            if message is not None and not message.error() and request in (message.value() or b""):
                return bytes(dict(message.headers() or [])["traceparent"] or b"").decode()  # pyright: ignore[reportArgumentType]
    finally:
        consumer.close()
    return None


def leave_midway(stack: Stack) -> str:
    """A client that asks for a long stream, reads its beginning and hangs up."""
    body = {
        "model": "shop",
        "messages": USER,
        "stream": True,
        "max_tokens": 460,
        "user": "leaver",
        "temperature": 1.0,
        "seed": 2,
    }
    data = json.dumps(body).encode()
    with socket.create_connection(("127.0.0.1", stack.ports["serving"])) as link:
        head = f"POST /v1/chat/completions HTTP/1.1\r\nhost: x\r\ncontent-length: {len(data)}\r\n\r\n"
        link.sendall(head.encode() + data)
        assert link.recv(4000).startswith(b"HTTP/1.1 200")
    return "leaver"


def test_a_switch_and_a_rollback_under_traffic_fail_no_request(parts: Upstream) -> None:
    two = parts.adapter("two", 2)
    with Traffic(parts.stack.url) as traffic:
        until(lambda: len(traffic.answered) > 10 or None, 30, "traffic flows")
        parts.promote("shop", 2, two)
        until(lambda: traffic.answered[-1] == "shop@2" or None, 30, "version 2 answers")
        parts.promote("shop", 1, parts.adapter("one-again", 1))
        until(lambda: traffic.answered[-1] == "shop@1" or None, 30, "version 1 answers again")
    assert traffic.faults == []
    assert set(traffic.answered) == {"shop@1", "shop@2"}

    def ours(events: list[dict[str, Any]]) -> list[tuple[int, str]]:
        return [(e["model"]["version"], e["status"]) for e in events if e["project"] == "shop"]

    told = [(1, "deployed"), (2, "deployed"), (1, "deployed")]  # after those of other tests that shared the broker
    read_topic(parts.stack.kafka, "serving.deployment.changed.v1", lambda found: ours(found)[-3:] == told)
    assert parts.stack.statuses()["shop", 2] == "deployed"


def test_a_version_that_cannot_serve_leaves_the_old_one(parts: Upstream, client: openai.OpenAI) -> None:
    parts.promote("shop", 3, parts.adapter("misfit", 3, hidden=32))
    until(lambda: parts.stack.statuses().get(("shop", 3)) == "failed" or None, 30, "version 3 failed")
    missing = {
        "adapter_model.safetensors": next(iter(parts.base.files.values())).model_copy(update={"sha256": "1" * 64})
    }
    parts.promote("shop", 4, missing)
    until(lambda: parts.stack.statuses().get(("shop", 4)) == "failed" or None, 30, "version 4 failed")
    assert client.chat.completions.create(model="shop", messages=USER).model == "shop@1"
    with pytest.raises(openai.NotFoundError):
        say(client, "shop@3")


def test_only_the_last_versions_are_kept(parts: Upstream, client: openai.OpenAI) -> None:
    parts.define("many", system=None)
    for version in range(1, 6):
        parts.promote("many", version, parts.adapter(f"many-{version}", 10 + version))
        parts.stack.wait_for("many", f"many@{version}", 30)
    until(lambda: parts.stack.statuses()["many", 2] == "removed" or None, 20, "version 2 is removed")
    answers = {say(client, f"many@{version}", max_tokens=8) for version in (3, 4, 5)}
    assert len(answers) == 3
    with pytest.raises(openai.NotFoundError):
        say(client, "many@1")


def test_a_restarted_service_takes_up_what_triton_holds(parts: Upstream, client: openai.OpenAI) -> None:
    before, loads = say(client), loads_of(parts.stack)
    parts.stack.kill("serving", signal.SIGTERM)
    parts.stack.start("serving")
    parts.stack.wait_for("shop", "shop@1", 60)
    assert say(client) == before
    assert loads_of(parts.stack) == loads


def loads_of(stack: Stack) -> int:
    return (stack.home / "triton.log").read_text(errors="replace").count('"successfully loaded')


def test_a_killed_triton_gives_503_and_comes_back(parts: Upstream, client: openai.OpenAI) -> None:
    before = say(client)
    parts.stack.kill("triton")
    with pytest.raises(openai.InternalServerError) as raised:
        say(client)
    assert raised.value.status_code == 503
    assert int(raised.value.response.headers["retry-after"]) >= 1
    assert raised.value.code in ("triton_unavailable", "answer_broken_off")
    ready = until(lambda: parts.stack.ready() is None or None, 10, "serving says that it is not ready")
    assert ready
    parts.stack.start("triton")
    parts.stack.wait_for("shop", "shop@1")
    assert say(client) == before


def test_a_killed_model_process_is_replaced(parts: Upstream, client: openai.OpenAI) -> None:
    """Triton goes on calling the model ready: only the failing request tells."""
    before = say(client)
    stream = client.chat.completions.create(
        model="shop", messages=USER, stream=True, max_tokens=50_000, seed=3, temperature=1
    )
    assert next(iter(stream))
    for pid in stubs(parts.stack):
        os.kill(pid, signal.SIGKILL)
    with pytest.raises(openai.InternalServerError):
        say(client)
    with pytest.raises(openai.APIError, match=r"lost|Triton"):
        list(stream)
    held: list[int] = []
    until(
        lambda: held.append(len(stubs(parts.stack))) or answers_again(parts.stack, client, before),
        60,
        "it answers again",
    )
    assert max(held) == 1  # never the memory of two
    assert len(list((parts.stack.home / "models" / "repository").iterdir())) == 1
    until(parts.stack.ready, 60, "serving is ready")


def test_a_model_process_killed_while_it_loads_stops_nothing_for_long(parts: Upstream, client: openai.OpenAI) -> None:
    """Triton may wait for the dead process for ever: then its watchdog ends it, and who holds it starts it again."""
    stack, before, dead = parts.stack, say(client), stubs(parts.stack)
    for pid in dead:
        os.kill(pid, signal.SIGKILL)
    with pytest.raises(openai.InternalServerError):
        say(client)
    loading = until(lambda: sorted(set(stubs(stack)) - set(dead)) or None, 30, "a new process loads the model")
    os.kill(loading[0], signal.SIGKILL)
    until(lambda: answers_again(stack, client, before), 40, "the model answers again")
    until(stack.ready, 60, "serving is ready")


def test_both_processes_killed_while_a_model_is_loaded_again_stop_nothing_for_long(
    parts: Upstream, client: openai.OpenAI
) -> None:
    """The gateway starts with another setting: the model is loaded again, and the old process and the new one die.

    Triton then calls the model ready for ever, loads it for ever, and answers no request about it.
    """
    stack, before, (old,) = parts.stack, say(client), stubs(parts.stack)
    stack.kill("serving")
    stack.settings = {"NORIA_SERVING_MAX_SEQUENCES": "5"}
    stack.start("serving")
    try:
        new = until(lambda: set(stubs(stack)) - {old} or None, 60, "a new process loads the model")
        for pid in (old, *new):
            os.kill(pid, signal.SIGKILL)
        until(lambda: answers_again(stack, client, before), 90, "the model answers again")
    finally:
        stack.settings = {}
    stack.kill("serving")
    stack.start("serving")
    stack.wait_for("shop", "shop@1", 60)


def answers_again(stack: Stack, client: openai.OpenAI, before: str) -> bool | None:
    """A Triton that ended is started again, as by its process manager: it may abort when a process of its dies."""
    if stack.running["triton"].poll() is not None:
        stack.start("triton")
    try:
        return say(client) == before
    except (openai.InternalServerError, openai.NotFoundError, openai.APIConnectionError):
        return None


def stubs(stack: Stack) -> list[int]:
    """The living processes of models; dead ones that Triton has not waited for have no command line."""
    return launch.stubs(launch.TritonSettings(stack.home.resolve()).shared_memory_prefix)


def test_without_kafka_answers_go_on_and_no_record_is_lost(parts: Upstream, client: openai.OpenAI) -> None:
    """Kafka is away, and then the gateway is killed: the spool keeps the record until both are back."""
    stack = parts.stack
    stack.kill("serving", signal.SIGTERM)
    stack.settings = {"NORIA_SERVING_KAFKA_BOOTSTRAP": f"127.0.0.1:{free_port()}"}
    stack.start("serving")
    try:
        until(lambda: answered(client, "user-of-the-outage"), 60, "an answer without Kafka")
        assert not stack.ready()
    finally:
        stack.settings = {}
        stack.kill("serving")
        stack.start("serving")
    stack.wait_for("shop", "shop@1")
    read_topic(
        stack.kafka,
        "serving.inference.completed.v1",
        lambda found: [e["status"] for e in found if e["user"] == "user-of-the-outage"] == ["ok"],
    )


def answered(client: openai.OpenAI, user: str) -> bool | None:
    try:
        return bool(say(client, user=user))
    except (openai.APIConnectionError, openai.InternalServerError, openai.NotFoundError):
        return None


def test_the_figures_tell_of_requests_and_tokens(parts: Upstream, client: openai.OpenAI) -> None:
    say(client, max_tokens=2)
    figures = httpx.get(f"{parts.stack.url}/metrics").text
    for name in (
        "requests_total",
        "tokens_total",
        "time_to_first_token_seconds_count",
        "request_seconds_bucket",
        "triton_up 1.0",
    ):
        assert f"noria_serving_{name}" in figures


def test_a_full_fine_tune_is_a_model_of_its_own(parts: Upstream, client: openai.OpenAI) -> None:
    files = parts.artifacts.put_directory(make_base(parts.scratch / "full", seed=9))
    parts.define("whole")
    parts.promote("whole", 1, files, kind="full")
    parts.stack.wait_for("whole", "whole@1")
    assert say(client, "whole") != say(client, "whole@base")


def test_the_real_base_reads_a_conversation_as_transformers_does() -> None:
    base = Path(os.environ.get("NORIA_CACHE", "~/.cache/noria")).expanduser() / "bases/smollm2-135m-instruct"
    turns = [
        {"role": "user", "content": "é <|im_end|>"},
        {"role": "assistant", "content": "b"},
        {"role": "user", "content": "c"},
    ]
    text = open_tokenizer(base)
    for asked in (turns, turns[1:]):
        theirs = text.backend.apply_chat_template(
            asked, tokenize=True, return_dict=False, add_generation_prompt=True, sanitize_control_tokens=True
        )
        assert list(text.prompt(asked).ids) == theirs
