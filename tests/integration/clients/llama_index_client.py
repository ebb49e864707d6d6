"""LlamaIndex: `OpenAILike` as a chat model that calls functions, `OpenAIResponses`, `OpenAILikeEmbedding`."""

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
from llama_index.core.llms import ChatMessage
from llama_index.core.prompts import PromptTemplate
from llama_index.core.tools import FunctionTool
from llama_index.embeddings.openai_like import OpenAILikeEmbedding
from llama_index.llms.openai import OpenAIResponses
from llama_index.llms.openai_like import OpenAILike


def model(**options: Any) -> OpenAILike:
    common = {
        "model": MODEL,
        "api_base": URL,
        "api_key": KEY,
        "is_chat_model": True,
        "max_retries": 0,
        "temperature": 0,
    }
    return OpenAILike(**{**common, "is_function_calling_model": True, "context_window": 100_000, **options})


USER = [ChatMessage(role="user", content=HELLO)]


@check
def chat() -> None:
    answer = model(max_tokens=8).chat(USER)
    assert answer.message.content
    assert (answer.raw.usage.prompt_tokens, answer.raw.usage.completion_tokens) == (HELLO_TOKENS, 8)
    assert str(model(is_chat_model=False, max_tokens=8).complete(HELLO))


@check
async def stream() -> None:
    made = model(max_tokens=20, temperature=0)
    whole = made.chat(USER).message.content
    assert list(made.stream_chat(USER))[-1].message.content == whole
    assert "".join([c.delta or "" async for c in await made.astream_chat(USER)]) == whole


@check
def tools() -> None:
    order, made = FunctionTool.from_defaults(place_order), model()
    called = made.chat_with_tools([order], chat_history=USER, tool_required=True)
    (call,) = made.get_tool_calls_from_response(called)
    result = order(**call.tool_kwargs)
    assert result.content.startswith("order 7")
    told = ChatMessage(role="tool", content=result.content, additional_kwargs={"tool_call_id": call.tool_id})
    answer = made.chat_with_tools([order], chat_history=[*USER, called.message, told], max_tokens=8)
    assert answer.message.content
    last = list(made.stream_chat_with_tools([order], chat_history=USER, tool_required=True))[-1]
    assert made.get_tool_calls_from_response(last)[0].tool_kwargs.keys() == {"kind", "cups", "hot"}


@check
async def structured() -> None:
    asked = PromptTemplate("{text}")
    for made in (model(), model(should_use_structured_outputs=True)):
        assert isinstance(made.structured_predict(Order, asked, text=HELLO), Order)
        assert isinstance(await made.astructured_predict(Order, asked, text=HELLO), Order)
    assert isinstance(model().as_structured_llm(Order).chat(USER).raw, Order)


@check
async def responses() -> None:
    made = OpenAIResponses(MODEL, api_base=URL, api_key=KEY, max_retries=0, temperature=0, context_window=100_000)
    assert made.chat(USER).message.content
    assert "".join(chunk.delta or "" for chunk in made.stream_chat(USER))
    called = await made.achat_with_tools(
        [FunctionTool.from_defaults(place_order)], chat_history=USER, tool_required=True
    )
    assert made.get_tool_calls_from_response(called)[0].tool_kwargs.keys() == {"kind", "cups", "hot"}


@check
async def embeddings() -> None:
    embedder = OpenAILikeEmbedding(model_name=EMBEDDER, api_base=URL, api_key=KEY, max_retries=0)
    closer(embedder.get_text_embedding_batch(TEXTS))
    assert len(await embedder.aget_query_embedding(HELLO)) == 384


@check
def errors() -> None:
    raises(openai.AuthenticationError, lambda: model(api_key=WRONG_KEY).chat(USER))
    raises(openai.NotFoundError, lambda: model(model=MISSING).chat(USER))
    long = [ChatMessage(role="user", content=TOO_LONG)]
    assert raises(openai.BadRequestError, lambda: model().chat(long)).code == "context_length_exceeded"
    raises(openai.RateLimitError, lambda: model().chat(USER, n=TOO_MANY))


run()
