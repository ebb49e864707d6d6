"""LangChain: `ChatOpenAI` of langchain-openai, and an agent of langchain with a structured answer."""

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
    place_order,
    raises,
    run,
)
from langchain.agents import create_agent
from langchain_core.exceptions import ContextOverflowError
from langchain_core.messages import HumanMessage, ToolMessage
from langchain_core.tools import tool
from langchain_openai import ChatOpenAI, OpenAIEmbeddings


def chat_model(**options: Any) -> ChatOpenAI:
    return ChatOpenAI(**{"model": MODEL, "base_url": URL, "api_key": KEY, "max_retries": 0, **options})


@check
def chat() -> None:
    answer = chat_model(max_tokens=8).invoke(HELLO)
    assert answer.content
    assert answer.usage_metadata["input_tokens"] == HELLO_TOKENS
    assert answer.usage_metadata["output_tokens"] == 8
    assert len(chat_model(max_tokens=8).batch([HELLO, HELLO])) == 2


@check
async def stream() -> None:
    model = chat_model(max_tokens=20, temperature=0, stream_usage=True)
    total: Any = None
    async for chunk in model.astream(HELLO):
        total = chunk if total is None else total + chunk
    whole = await model.ainvoke(HELLO)
    assert total.content == whole.content
    assert total.usage_metadata == whole.usage_metadata


@check
def tools() -> None:
    order = tool(place_order)
    user = HumanMessage(HELLO)
    called = chat_model().bind_tools([order], tool_choice="required").invoke([user])
    (call,) = called.tool_calls
    result = order.invoke(call)
    assert isinstance(result, ToolMessage)
    assert result.content.startswith("order 7")
    answer = chat_model(max_tokens=8).bind_tools([order], tool_choice="none").invoke([user, called, result])
    assert answer.content
    streamed: Any = None
    for chunk in chat_model().bind_tools([order], tool_choice="place_order").stream([user]):
        streamed = chunk if streamed is None else streamed + chunk
    assert streamed.tool_calls[0]["args"].keys() == {"kind", "cups", "hot"}


@check
def structured() -> None:
    for method in ("function_calling", "json_schema"):
        for strict in (None, True):
            answer = chat_model().with_structured_output(Order, method=method, strict=strict).invoke(HELLO)
            assert isinstance(answer, Order), method
    agent = create_agent(chat_model(), tools=[], response_format=Order)
    assert isinstance(agent.invoke({"messages": [HumanMessage(HELLO)]})["structured_response"], Order)


@check
async def responses() -> None:
    model = chat_model(use_responses_api=True)
    order, user = tool(place_order), HumanMessage(HELLO)
    called = await model.bind_tools([order], tool_choice="required").ainvoke([user])
    result = order.invoke(called.tool_calls[0])
    total: Any = None
    async for chunk in model.bind_tools([order], tool_choice="none").astream([user, called, result]):
        total = chunk if total is None else total + chunk
    assert total.text
    assert total.usage_metadata["output_tokens"] > 0
    assert isinstance(await model.with_structured_output(Order).ainvoke(HELLO), Order)


@check
async def embeddings() -> None:
    """It would send token ids of an OpenAI tokenizer, were it not told that the model has another."""
    asked = {"model": EMBEDDER, "base_url": URL, "api_key": KEY, "max_retries": 0, "check_embedding_ctx_length": False}
    closer(await OpenAIEmbeddings(**asked).aembed_documents(TEXTS))
    assert len(OpenAIEmbeddings(**asked).embed_query(HELLO)) == 384


@check
def errors() -> None:
    raises(openai.AuthenticationError, lambda: chat_model(api_key=WRONG_KEY).invoke(HELLO))
    raises(openai.NotFoundError, lambda: chat_model(model=MISSING).invoke(HELLO))
    raises(ContextOverflowError, lambda: chat_model().invoke(TOO_LONG))
    raises(openai.RateLimitError, lambda: chat_model(n=TOO_MANY).invoke(HELLO))


run()
