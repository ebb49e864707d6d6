"""/v1/responses on a real Triton through the real openai client: the tiny base writes noise, so what is enforced is shown."""

import json
import os
import signal
from collections.abc import Iterator
from itertools import islice
from typing import Any, Literal

import httpx
import jsonschema
import openai
import pytest
from pydantic import BaseModel, Field

from services.serving.triton import launch
from tests.integration.serving_parts import Upstream, openai_client, read_topic, shop
from tests.integration.tiny_model import CONTEXT


@pytest.fixture(scope="module")
def parts(kafka: str) -> Iterator[Upstream]:
    with shop(kafka, max_tokens=400) as upstream:
        yield upstream


@pytest.fixture
def client(parts: Upstream) -> openai.OpenAI:
    return openai_client(parts.stack)


class Order(BaseModel):
    """An order."""

    kind: Literal["tea", "coffee"]
    cups: int = Field(ge=1, le=9)
    hot: bool


TOOLS: Any = [
    {"type": "function", "name": "order", "parameters": Order.model_json_schema(), "strict": False},
    {"type": "function", "name": "bye", "parameters": None, "strict": None},
]


def test_a_response_says_what_the_same_chat_says(client: openai.OpenAI) -> None:
    asked: Any = {"model": "shop", "temperature": 1.5, "seed": 3}
    chat = client.chat.completions.create(
        messages=[{"role": "system", "content": "Be kind."}, {"role": "user", "content": "hello"}],
        max_tokens=9,
        **asked,
    )
    seed = {"seed": asked.pop("seed")}
    response = client.responses.create(
        input="hello", instructions="Be kind.", max_output_tokens=9, extra_body=seed, **asked
    )
    assert response.output_text == chat.choices[0].message.content
    assert response.usage
    assert chat.usage
    assert (response.usage.input_tokens, response.usage.output_tokens) == (
        chat.usage.prompt_tokens,
        chat.usage.completion_tokens,
    )
    assert (response.instructions, response.temperature, response.max_output_tokens) == ("Be kind.", 1.5, 9)
    assert response.id.startswith("resp_")


@pytest.mark.parametrize("stream", [False, True])
def test_an_answer_that_meets_its_limit_is_incomplete(client: openai.OpenAI, stream: bool) -> None:
    asked: Any = {"model": "shop", "input": "hello", "max_output_tokens": 5}
    if stream:
        *_, last = client.responses.create(stream=True, **asked)
        assert last.type == "response.incomplete"
        response = last.response
    else:
        response = client.responses.create(**asked)
    assert (response.status, response.incomplete_details and response.incomplete_details.reason) == (
        "incomplete",
        "max_output_tokens",
    )
    assert response.usage
    assert response.usage.output_tokens == 5


def test_a_stream_grows_to_its_response(client: openai.OpenAI) -> None:
    format: Any = {"type": "json_schema", "name": "o", "schema": Order.model_json_schema(), "strict": True}
    with client.responses.stream(model="shop", input="hello", text={"format": format}) as events:
        told = list(events)
        response = events.get_final_response()
    assert [event.sequence_number for event in told] == list(range(len(told)))
    assert [told[0].type, told[1].type, told[-1].type] == [
        "response.created",
        "response.in_progress",
        "response.completed",
    ]
    deltas = [event.delta for event in told if event.type == "response.output_text.delta"]
    assert len(deltas) > 5
    assert "".join(deltas) == response.output_text
    Order.model_validate_json(response.output_text)


@pytest.mark.parametrize("stream", [False, True])
def test_a_pydantic_class_is_what_parse_gives(client: openai.OpenAI, stream: bool) -> None:
    asked: Any = {"model": "shop", "input": "hello", "text_format": Order, "temperature": 1.5}
    if stream:
        with client.responses.stream(**asked) as events:
            events.until_done()
            parsed = events.get_final_response().output_parsed
    else:
        parsed = client.responses.parse(**asked).output_parsed
    assert isinstance(parsed, Order)


@pytest.mark.parametrize("stream", [False, True])
def test_a_tool_is_called_and_its_result_is_answered(client: openai.OpenAI, stream: bool) -> None:
    """The output's items go back as they came, with what the call gave."""
    history: Any = [{"role": "user", "content": "Two teas, please."}]
    choice: Any = {"type": "function", "name": "order"}
    asked: Any = {"model": "shop", "tools": TOOLS}
    if stream:
        with client.responses.stream(input=history, tool_choice=choice, **asked) as events:
            told = list(events)
            response: Any = events.get_final_response()
        deltas = [event.delta for event in told if event.type == "response.function_call_arguments.delta"]
        assert "".join(deltas) == response.output[0].arguments
        assert len(deltas) > 3
    else:
        response = client.responses.create(input=history, tool_choice=choice, **asked)
    (call,) = response.output
    assert (response.status, call.type, call.name, call.status) == ("completed", "function_call", "order", "completed")
    jsonschema.validate(json.loads(call.arguments), Order.model_json_schema())
    history += [item.model_dump(exclude_none=True) for item in response.output]
    history.append({"type": "function_call_output", "call_id": call.call_id, "output": "on its way"})
    answer = client.responses.create(input=history, tool_choice="none", max_output_tokens=9, **asked)
    assert answer.output[0].type == "message"
    calls = [{"id": call.call_id, "type": "function", "function": {"name": "order", "arguments": call.arguments}}]
    turns: Any = [
        history[0],
        {"role": "assistant", "tool_calls": calls},
        {"role": "tool", "tool_call_id": call.call_id, "content": "on its way"},
    ]
    same = client.chat.completions.create(model="shop", messages=turns, max_tokens=9)
    assert answer.output_text == same.choices[0].message.content


def test_an_answer_goes_on_as_history(client: openai.OpenAI) -> None:
    first = client.responses.create(model="shop", input="hello", max_output_tokens=6)
    history: Any = [{"role": "user", "content": "hello"}, *(item.model_dump() for item in first.output)]
    history.append({"role": "user", "content": "and?"})
    second = client.responses.create(model="shop", input=history, max_output_tokens=6)
    assert first.usage
    assert second.usage
    assert second.usage.input_tokens > first.usage.input_tokens + 6


@pytest.mark.parametrize("stream", [False, True])
def test_logprobs_of_a_response(client: openai.OpenAI, stream: bool) -> None:
    asked: Any = {"model": "shop", "input": "hello", "max_output_tokens": 4, "top_logprobs": 2}
    asked["include"] = ["message.output_text.logprobs"]
    if stream:
        *_, last = client.responses.create(stream=True, **asked)
        response: Any = last.response  # type: ignore[union-attr]
    else:
        response = client.responses.create(**asked)
    entries = response.output[0].content[0].logprobs
    assert [len(entry.top_logprobs) for entry in entries] == [2] * 4
    assert all(entry.top_logprobs[0].token == entry.token for entry in entries)


@pytest.mark.parametrize(
    ("change", "error", "param", "why"),
    [
        ({"model": "nobody"}, openai.NotFoundError, "model", "nobody"),
        ({"previous_response_id": "resp_1"}, openai.BadRequestError, "previous_response_id", "answers are not kept"),
        ({"tools": [{"type": "web_search"}]}, openai.BadRequestError, "tools.0", "give functions"),
        ({"input": "x" * CONTEXT}, openai.BadRequestError, None, f"maximum context length is {CONTEXT} tokens"),
        (
            {
                "text": {
                    "format": {"type": "json_schema", "name": "n", "schema": {"type": "array", "uniqueItems": True}}
                }
            },
            openai.BadRequestError,
            "text.format",
            "uniqueItems",
        ),
    ],
    ids=lambda value: next(iter(value)) if isinstance(value, dict) else None,
)
def test_what_is_refused_is_the_clients_own_error(
    client: openai.OpenAI, change: dict[str, Any], error: type[openai.APIStatusError], param: str | None, why: str
) -> None:
    text: Any = change.get("text")
    if text:
        text["format"]["strict"] = True
    create: Any = client.responses.create
    for stream in (False, True):
        with pytest.raises(error, match=why) as refused:
            create(**{"model": "shop", "input": "hello", "stream": stream, **change})
        assert refused.value.param == param


def test_no_response_can_be_fetched(client: openai.OpenAI, parts: Upstream) -> None:
    response = client.responses.create(model="shop", input="hello", max_output_tokens=2, store=True)
    for attempt in (client.responses.retrieve, client.responses.cancel, client.responses.delete):
        with pytest.raises(openai.NotFoundError, match="No response is kept here"):
            attempt(response.id)
    assert httpx.get(f"{parts.stack.url}/v1/responses/{response.id}/input_items").status_code == 404


def test_a_response_is_recorded_under_its_id(client: openai.OpenAI, parts: Upstream) -> None:
    kept = client.responses.create(model="shop", input="q-kept", max_output_tokens=2, metadata={"a": "b"})
    dropped = client.responses.create(model="shop", input="q-dropped", max_output_tokens=2, store=False)
    ids = {kept.id, dropped.id}

    def there(events: list[dict[str, Any]]) -> bool:
        return ids <= {event["request_id"] for event in events}

    found = {e["request_id"]: e for e in read_topic(parts.stack.kafka, "serving.inference.completed.v1", there)}
    event = found[kept.id]
    assert (event["endpoint"], event["metadata"], event["status"]) == ("chat.completions", {"a": "b"}, "ok")
    assert event["messages"][-1] == {"role": "user", "content": "q-kept"}
    assert (found[dropped.id]["stored"], found[dropped.id]["messages"]) == (False, None)


@pytest.mark.parametrize(
    ("path", "body"),
    [
        ("/v1/responses", {"input": "hello", "max_output_tokens": 3}),
        ("/v1/chat/completions", {"messages": [{"role": "user", "content": "hello"}], "max_tokens": 3}),
        ("/v1/completions", {"prompt": "hello", "max_tokens": 3, "logprobs": 1}),
        ("/v1/models", None),
        ("/v1/models/{name}", None),
    ],
)
def test_an_answer_is_what_the_document_says(parts: Upstream, path: str, body: dict[str, Any] | None) -> None:
    with httpx.Client(base_url=parts.stack.url, timeout=60, trust_env=False) as http:
        operation = http.get("/openapi.json").json()["paths"][path]["get" if body is None else "post"]
        url = path.format(name="shop")
        answer = http.get(url) if body is None else http.post(url, json={"model": "shop", **body})
    assert answer.status_code == 200
    schema = operation["responses"]["200"]["content"]["application/json"]["schema"]
    assert schema["additionalProperties"] is False
    jsonschema.validate(answer.json(), schema)


def test_a_stream_that_breaks_off_is_raised_by_the_client(client: openai.OpenAI, parts: Upstream) -> None:
    """Last of this file: the model's process is killed, and the next one needs a moment."""
    endless: Any = {"max_output_tokens": 50_000, "extra_body": {"ignore_eos": True}}
    events = iter(client.responses.create(model="shop", input="hello", stream=True, **endless))
    told = [event.type for event in islice(events, 20)]
    for pid in launch.stubs(launch.TritonSettings(parts.stack.home.resolve()).shared_memory_prefix):
        os.kill(pid, signal.SIGKILL)
    with pytest.raises(openai.APIError) as raised:
        told.extend(event.type for event in events)
    assert raised.value.code in ("answer_broken_off", "model_failed", "triton_unavailable")
    assert told[:5] == [
        "response.created",
        "response.in_progress",
        "response.output_item.added",
        "response.content_part.added",
        "response.output_text.delta",
    ]
    assert "response.completed" not in told
