"""OpenAI's Agents SDK, on chat completions and on responses."""

from typing import Any

import openai
from agents import (
    Agent,
    ModelSettings,
    OpenAIChatCompletionsModel,
    OpenAIResponsesModel,
    Runner,
    function_tool,
    set_tracing_disabled,
)
from checks import (
    HELLO,
    HELLO_TOKENS,
    KEY,
    MISSING,
    MODEL,
    TOO_LONG,
    TOO_MANY,
    URL,
    WRONG_KEY,
    Order,
    check,
    place_order,
    run,
)

set_tracing_disabled(True)  # it would send the runs to OpenAI


def model(name: str = MODEL, key: str = KEY) -> OpenAIChatCompletionsModel:
    return OpenAIChatCompletionsModel(name, openai.AsyncOpenAI(base_url=URL, api_key=key, max_retries=0))


def agent(used: Any = None, settings: ModelSettings | None = None, **options: Any) -> Agent:
    return Agent("clerk", model=used or model(), model_settings=settings or ModelSettings(), **options)


@check
async def chat() -> None:
    result = await Runner.run(agent(settings=ModelSettings(max_tokens=8)), HELLO)
    assert result.final_output
    (raw,) = result.raw_responses
    assert (raw.usage.input_tokens, raw.usage.output_tokens) == (HELLO_TOKENS, 8)


@check
async def stream() -> None:
    clerk = agent(settings=ModelSettings(max_tokens=20, temperature=0, include_usage=True))
    streamed = Runner.run_streamed(clerk, HELLO)
    deltas = [
        event.data.delta
        async for event in streamed.stream_events()
        if event.type == "raw_response_event" and event.data.type == "response.output_text.delta"
    ]
    assert len(deltas) > 1
    assert "".join(deltas) == streamed.final_output == (await Runner.run(clerk, HELLO)).final_output
    assert streamed.raw_responses[0].usage.output_tokens == 20


@check
async def tools() -> None:
    """The first turn must call; the SDK then frees the choice, and the second answers."""
    forced = ModelSettings(tool_choice="required")
    clerk = agent(settings=forced, tools=[function_tool(place_order)])
    for result in (await Runner.run(clerk, HELLO), await _streamed(clerk)):
        outputs = [item.output for item in result.new_items if item.type == "tool_call_output_item"]
        assert outputs
        assert outputs[0].startswith("order 7"), outputs
        assert result.final_output


async def _streamed(clerk: Agent) -> Any:
    result = Runner.run_streamed(clerk, HELLO)
    async for _ in result.stream_events():
        pass
    return result


@check
async def structured() -> None:
    assert isinstance((await Runner.run(agent(output_type=Order), HELLO)).final_output, Order)


@check
async def responses() -> None:
    """What the SDK takes where nothing else is said."""
    used = OpenAIResponsesModel(MODEL, openai.AsyncOpenAI(base_url=URL, api_key=KEY, max_retries=0))
    clerk = agent(used, ModelSettings(tool_choice="required"), tools=[function_tool(place_order)])
    for result in (await Runner.run(clerk, HELLO), await _streamed(clerk)):
        outputs = [item.output for item in result.new_items if item.type == "tool_call_output_item"]
        assert outputs[0].startswith("order 7")
        assert result.final_output
    assert isinstance((await Runner.run(agent(used, output_type=Order), HELLO)).final_output, Order)


@check
async def errors() -> None:
    many = ModelSettings(extra_args={"n": TOO_MANY})
    for kind, clerk, text in (
        (openai.AuthenticationError, agent(model(key=WRONG_KEY)), HELLO),
        (openai.NotFoundError, agent(model(MISSING)), HELLO),
        (openai.BadRequestError, agent(), TOO_LONG),
        (openai.RateLimitError, agent(settings=many), HELLO),
    ):
        try:
            await Runner.run(clerk, text)
        except kind:
            continue
        raise AssertionError(kind)


run()
