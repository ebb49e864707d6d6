"""OpenAI's own Python client."""

import json
from typing import Any

import openai
from checks import (
    EMBEDDER,
    HELLO,
    HELLO_TOKENS,
    KEY,
    MISSING,
    MODEL,
    TEXTS,
    TOO_LONG,
    TOO_MANY,
    URL,
    WRONG_KEY,
    Order,
    check,
    closer,
    raises,
    run,
)

client = openai.OpenAI(base_url=URL, api_key=KEY, max_retries=0)
USER: Any = [{"role": "user", "content": HELLO}]


@check
def chat() -> None:
    answer = client.chat.completions.create(model=MODEL, messages=USER, max_tokens=8)
    assert answer.choices[0].message.content
    assert answer.usage.prompt_tokens == HELLO_TOKENS
    assert answer.usage.completion_tokens == 8
    assert MODEL in [model.id for model in client.models.list()]


@check
async def stream() -> None:
    whole = client.chat.completions.create(model=MODEL, messages=USER, max_tokens=20, temperature=0)
    aclient = openai.AsyncOpenAI(base_url=URL, api_key=KEY, max_retries=0)
    asked: Any = {"model": MODEL, "messages": USER, "max_tokens": 20, "temperature": 0}
    chunks = [
        c
        async for c in await aclient.chat.completions.create(
            stream=True, stream_options={"include_usage": True}, **asked
        )
    ]
    assert "".join(c.choices[0].delta.content or "" for c in chunks if c.choices) == whole.choices[0].message.content
    assert chunks[-1].usage == whole.usage


@check
def tools() -> None:
    order: Any = openai.pydantic_function_tool(Order, name="order")
    asked: Any = {"model": MODEL, "tools": [order]}
    first = client.chat.completions.parse(messages=USER, tool_choice="required", **asked).choices[0]
    (call,) = first.message.tool_calls
    assert first.finish_reason == "tool_calls"
    assert isinstance(call.function.parsed_arguments, Order)
    result = {"role": "tool", "tool_call_id": call.id, "content": "done"}
    cut = {"id": call.id, "type": "function", "function": {"name": "order", "arguments": '{"kind": "te'}}
    for turn in (first.message, {"role": "assistant", "tool_calls": [cut]}):  # agents send a cut call back too
        answer = client.chat.completions.create(messages=[*USER, turn, result], max_tokens=8, **asked)
        assert answer.choices[0].message.content
    with client.chat.completions.stream(messages=USER, tool_choice="required", **asked) as events:
        (streamed,) = events.get_final_completion().choices[0].message.tool_calls
    Order.model_validate(json.loads(streamed.function.arguments))


@check
def structured() -> None:
    parsed = client.chat.completions.parse(model=MODEL, messages=USER, response_format=Order).choices[0].message.parsed
    assert isinstance(parsed, Order)


@check
def responses() -> None:
    answer = client.responses.create(model=MODEL, input=HELLO, max_output_tokens=8)
    assert answer.output_text
    assert (answer.status, answer.usage.input_tokens, answer.usage.output_tokens) == ("incomplete", HELLO_TOKENS, 8)
    order: Any = openai.pydantic_function_tool(Order, name="order")["function"]
    asked: Any = {"model": MODEL, "tools": [{"type": "function", **order}]}
    history: Any = [{"role": "user", "content": HELLO}]
    (call,) = client.responses.create(input=history, tool_choice="required", **asked).output
    Order.model_validate_json(call.arguments)
    result = {"type": "function_call_output", "call_id": call.call_id, "output": "done"}
    assert client.responses.create(input=[*history, call, result], max_output_tokens=8, **asked).output_text
    assert isinstance(client.responses.parse(model=MODEL, input=HELLO, text_format=Order).output_parsed, Order)
    with client.responses.stream(model=MODEL, input=HELLO, text_format=Order) as events:
        pieces = [event.delta for event in events if event.type == "response.output_text.delta"]
        final = events.get_final_response()
    assert "".join(pieces) == final.output_text
    assert isinstance(final.output_parsed, Order)


@check
def embeddings() -> None:
    for options in ({}, {"encoding_format": "float"}):
        answer = client.embeddings.create(model=EMBEDDER, input=TEXTS, **options)
        closer([each.embedding for each in answer.data])
        assert answer.usage.prompt_tokens > 10


@check
def errors() -> None:
    def ask(model: str = MODEL, text: str = HELLO, key: str = KEY, **more: Any) -> Any:
        messages: Any = [{"role": "user", "content": text}]
        return client.with_options(api_key=key).chat.completions.create(model=model, messages=messages, **more)

    raises(openai.AuthenticationError, lambda: ask(key=WRONG_KEY))
    assert raises(openai.NotFoundError, lambda: ask(model=MISSING)).code == "model_not_found"
    assert raises(openai.BadRequestError, lambda: ask(text=TOO_LONG)).code == "context_length_exceeded"
    assert int(raises(openai.RateLimitError, lambda: ask(n=TOO_MANY)).response.headers["retry-after"]) >= 1


run()
