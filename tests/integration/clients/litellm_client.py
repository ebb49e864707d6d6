"""LiteLLM, with the provider `openai/` and an `api_base`."""

import json
from typing import Any

import litellm
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

USER: Any = [{"role": "user", "content": HELLO}]
TOOLS: Any = [
    {
        "type": "function",
        "function": {"name": "order", "parameters": Order.model_json_schema(), "description": "Orders."},
    }
]


def arguments(**options: Any) -> Any:
    common = {"model": f"openai/{MODEL}", "messages": USER, "api_base": URL, "api_key": KEY, "num_retries": 0}
    return {**common, "max_retries": 0, **options}


def ask(**options: Any) -> Any:
    return litellm.completion(**arguments(**options))


@check
def chat() -> None:
    answer = ask(max_tokens=8)
    assert answer.choices[0].message.content
    assert (answer.usage.prompt_tokens, answer.usage.completion_tokens) == (HELLO_TOKENS, 8)


@check
async def stream() -> None:
    whole = ask(max_tokens=20, temperature=0)
    options = arguments(max_tokens=20, temperature=0, stream=True, stream_options={"include_usage": True})
    chunks = [chunk async for chunk in await litellm.acompletion(**options)]
    built = litellm.stream_chunk_builder(chunks)
    assert built.choices[0].message.content == whole.choices[0].message.content
    assert built.usage.completion_tokens == whole.usage.completion_tokens
    assert built.usage.prompt_tokens == whole.usage.prompt_tokens


@check
def tools() -> None:
    first = ask(tools=TOOLS, tool_choice="required").choices[0]
    (call,) = first.message.tool_calls
    assert first.finish_reason == "tool_calls"
    Order.model_validate(json.loads(call.function.arguments))
    history = [*USER, first.message, {"role": "tool", "tool_call_id": call.id, "content": "done"}]
    assert ask(messages=history, tools=TOOLS, tool_choice="none", max_tokens=8).choices[0].message.content
    named = {"type": "function", "function": {"name": "order"}}
    built = litellm.stream_chunk_builder(list(ask(tools=TOOLS, tool_choice=named, stream=True)))
    Order.model_validate(json.loads(built.choices[0].message.tool_calls[0].function.arguments))


@check
def structured() -> None:
    Order.model_validate_json(ask(response_format=Order).choices[0].message.content)


@check
def responses() -> None:
    asked: Any = {"model": f"openai/{MODEL}", "input": HELLO, "api_base": URL, "api_key": KEY}
    answer = litellm.responses(max_output_tokens=16, **asked)  # OpenAI's least, and so LiteLLM's
    assert answer.output[0].content[0].text
    assert (answer.usage.input_tokens, answer.usage.output_tokens) == (HELLO_TOKENS, 16)
    order = {"type": "function", **TOOLS[0]["function"]}
    called = litellm.responses(tools=[order], tool_choice="required", **asked).output[0]
    Order.model_validate(json.loads(called.arguments))
    types = [event.type for event in litellm.responses(stream=True, max_output_tokens=16, **asked)]
    assert types[0] == "response.created"
    assert types[-1] in ("response.completed", "response.incomplete")


@check
def embeddings() -> None:
    answer = litellm.embedding(model=f"openai/{EMBEDDER}", input=TEXTS, api_base=URL, api_key=KEY)
    closer([each["embedding"] for each in answer.data])


@check
def errors() -> None:
    raises(litellm.AuthenticationError, lambda: ask(api_key=WRONG_KEY))
    raises(litellm.NotFoundError, lambda: ask(model=f"openai/{MISSING}"))
    raises(litellm.ContextWindowExceededError, lambda: ask(messages=[{"role": "user", "content": TOO_LONG}]))
    raises(litellm.RateLimitError, lambda: ask(n=TOO_MANY))


run()
