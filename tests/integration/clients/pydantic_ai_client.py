"""Pydantic AI: agents with tools and typed answers on its OpenAI chat model."""

from typing import Any, Literal

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
    Cups,
    Order,
    check,
    closer,
    place_order,
    raises,
    run,
)
from pydantic_ai import Agent, Embedder, NativeOutput
from pydantic_ai.embeddings.openai import OpenAIEmbeddingModel
from pydantic_ai.exceptions import ModelHTTPError
from pydantic_ai.models.openai import OpenAIChatModel, OpenAIResponsesModel
from pydantic_ai.providers.openai import OpenAIProvider


def model(name: str = MODEL, key: str = KEY) -> OpenAIChatModel:
    return OpenAIChatModel(name, provider=OpenAIProvider(base_url=URL, api_key=key))


@check
def chat() -> None:
    result = Agent(model(), model_settings={"max_tokens": 8}).run_sync(HELLO)
    assert result.output
    assert result.usage.input_tokens == HELLO_TOKENS
    assert result.usage.output_tokens == 8


@check
async def stream() -> None:
    agent = Agent(model(), model_settings={"max_tokens": 20, "temperature": 0})
    async with agent.run_stream(HELLO) as streamed:
        text = "".join([piece async for piece in streamed.stream_text(delta=True, debounce_by=None)])
    assert text == (await agent.run(HELLO)).output


@check
def tools() -> None:
    """A typed answer is a tool of its own, and one must be called: the noise chooses which, until it is that one."""
    placed: list[str] = []

    def order(kind: Literal["tea", "coffee"], cups: Cups, hot: bool) -> str:
        """Orders."""
        placed.append(place_order(kind, cups, hot))
        return placed[-1]

    for seed in range(10):
        agent = Agent(model(), tools=[order], output_type=Order, model_settings={"seed": seed, "temperature": 1})
        assert isinstance(agent.run_sync(HELLO).output, Order)
        if placed:
            return
    raise AssertionError("no tool was called")


@check
async def structured() -> None:
    assert isinstance((await Agent(model(), output_type=Order).run(HELLO)).output, Order)
    native = Agent(model(), output_type=NativeOutput(Order))
    assert isinstance((await native.run(HELLO)).output, Order)
    async with native.run_stream(HELLO) as streamed:
        assert isinstance(await streamed.get_output(), Order)


@check
async def responses() -> None:
    used = OpenAIResponsesModel(MODEL, provider=OpenAIProvider(base_url=URL, api_key=KEY))
    assert (await Agent(used, model_settings={"max_tokens": 8}).run(HELLO)).usage.input_tokens == HELLO_TOKENS
    assert isinstance((await Agent(used, output_type=Order).run(HELLO)).output, Order)
    async with Agent(used, output_type=NativeOutput(Order)).run_stream(HELLO) as streamed:
        assert isinstance(await streamed.get_output(), Order)


@check
async def embeddings() -> None:
    embedder = Embedder(OpenAIEmbeddingModel(EMBEDDER, provider=OpenAIProvider(base_url=URL, api_key=KEY)))
    closer((await embedder.embed_documents(TEXTS)).embeddings)


@check
def errors() -> None:
    def status(text: str = HELLO, used: OpenAIChatModel | None = None, **settings: Any) -> int:
        agent = Agent(used or model(), model_settings=settings)
        return raises(ModelHTTPError, lambda: agent.run_sync(text)).status_code

    assert status(used=model(key=WRONG_KEY)) == 401
    assert status(used=model(MISSING)) == 404
    assert status(TOO_LONG) == 400
    assert status(extra_body={"n": TOO_MANY}) == 429


run()
