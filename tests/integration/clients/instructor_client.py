"""Instructor on OpenAI's client: answers as pydantic objects, by tools and by JSON."""

from typing import Any

import instructor
import openai
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
    raises,
    run,
)
from instructor.core import InstructorRetryException

USER: Any = [{"role": "user", "content": HELLO}]


def client(mode: Any = instructor.Mode.TOOLS, key: str = KEY) -> Any:
    return instructor.from_openai(openai.OpenAI(base_url=URL, api_key=key, max_retries=0), mode=mode)


def ask(made: Any = None, **options: Any) -> Any:
    asked = {"model": MODEL, "messages": USER, "response_model": Order, "max_retries": 1, **options}
    return (made or client()).chat.completions.create(**asked)


@check
def chat() -> None:
    answer = ask(response_model=None, max_tokens=8)
    assert answer.choices[0].message.content
    assert answer.usage.prompt_tokens == HELLO_TOKENS


@check
def stream() -> None:
    partial = list(client().chat.completions.create_partial(model=MODEL, messages=USER, response_model=Order))
    assert len(partial) > 1
    Order.model_validate(partial[-1].model_dump())


@check
def tools() -> None:
    for mode in (instructor.Mode.TOOLS, instructor.Mode.TOOLS_STRICT):
        assert isinstance(ask(client(mode)), Order), mode
    order, raw = client().chat.completions.create_with_completion(model=MODEL, messages=USER, response_model=Order)
    assert isinstance(order, Order)
    assert raw.choices[0].message.tool_calls[0].function.name == "Order"


@check
def structured() -> None:
    assert isinstance(ask(client(instructor.Mode.JSON_SCHEMA)), Order)


@check
def responses() -> None:
    made = client(instructor.Mode.RESPONSES_TOOLS)
    assert isinstance(made.responses.create(model=MODEL, input=HELLO, response_model=Order, max_retries=1), Order)


@check
def errors() -> None:
    def status(call: Any) -> Any:
        error: Any = raises((InstructorRetryException, openai.APIStatusError), call)
        while error is not None and not isinstance(error, openai.APIStatusError):
            error = error.__cause__ or error.__context__
        return error

    assert isinstance(status(lambda: ask(client(key=WRONG_KEY))), openai.AuthenticationError)
    assert isinstance(status(lambda: ask(model=MISSING)), openai.NotFoundError)
    assert status(lambda: ask(messages=[{"role": "user", "content": TOO_LONG}])).code == "context_length_exceeded"
    assert isinstance(status(lambda: ask(n=TOO_MANY)), openai.RateLimitError)


run()
