"""What clients send beyond plain chat, on a real Triton through the real openai client: the tiny base writes noise."""

import json
import re
from collections.abc import Iterator
from typing import Any, Literal

import jsonschema
import openai
import pytest
from pydantic import BaseModel, Field
from tokenizers import pre_tokenizers

from tests.integration.serving_parts import Upstream, openai_client, shop

USER: Any = [{"role": "user", "content": "hello"}]


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


def test_a_pydantic_class_is_what_parse_gives(client: openai.OpenAI) -> None:
    kinds: set[str] = set()
    for seed in range(6):
        answer = client.chat.completions.parse(
            model="shop", messages=USER, response_format=Order, temperature=1.5, seed=seed
        )
        order = answer.choices[0].message.parsed
        assert isinstance(order, Order)
        assert answer.choices[0].finish_reason == "stop"
        kinds.add(order.kind)
    assert kinds == {"tea", "coffee"}


def test_a_stream_follows_its_schema_too(client: openai.OpenAI) -> None:
    chosen: Any = {"type": "json_schema", "json_schema": {"name": "o", "schema": Order.model_json_schema()}}
    stream = client.chat.completions.create(model="shop", messages=USER, response_format=chosen, stream=True)
    chunks = [c.choices[0].delta.content or "" for c in stream]
    Order.model_validate_json("".join(chunks))
    assert len(chunks) > 5


def test_json_mode_choices_and_regular_expressions(client: openai.OpenAI) -> None:
    ask: Any = client.chat.completions.create
    object_: Any = {"type": "json_object"}
    begun = ask(model="shop", messages=USER, response_format=object_, max_tokens=20).choices[0].message.content
    assert begun.startswith("{")
    for extra, pattern in (
        ({"guided_choice": ["yes", "no"]}, "yes|no"),
        ({"guided_regex": "[0-9]{4}-[ab]"}, "[0-9]{4}-[ab]"),
    ):
        answer = ask(model="shop", messages=USER, extra_body=extra)
        assert re.fullmatch(pattern, answer.choices[0].message.content)
    text = client.completions.create(model="shop", prompt="x", extra_body={"guided_choice": ["left", "right"]})
    assert text.choices[0].text in ("left", "right")


@pytest.mark.parametrize(
    ("change", "param", "why"),
    [
        ({"extra_body": {"guided_regex": "(?=a)b"}}, "guided_regex", "look-around"),
        ({"extra_body": {"guided_json": {"type": "array", "uniqueItems": True}}}, "guided_json", "uniqueItems"),
        ({"extra_body": {"guided_json": {"enum": ["x" * 70_000]}}}, "guided_json", "at most 65536"),
    ],
)
def test_what_cannot_be_enforced_is_told_before_anything_runs(
    client: openai.OpenAI, change: dict[str, Any], param: str, why: str
) -> None:
    with pytest.raises(openai.BadRequestError, match=f"(?s){why}") as refused:
        client.chat.completions.create(model="shop", messages=USER, **change)
    assert refused.value.param == param


TOOLS: Any = [
    {
        "type": "function",
        "function": {
            "name": "order",
            "parameters": Order.model_json_schema(),
        },
    },
    {"type": "function", "function": {"name": "bye"}},
]


@pytest.mark.parametrize("stream", [False, True])
@pytest.mark.parametrize("choice", ["required", {"type": "function", "function": {"name": "order"}}])
def test_a_forced_call_is_a_call_with_arguments_that_fit(client: openai.OpenAI, choice: Any, stream: bool) -> None:
    asked: dict[str, Any] = {"model": "shop", "messages": USER, "tools": TOOLS, "tool_choice": choice}
    if stream:
        with client.chat.completions.stream(**asked) as events:
            answer = events.get_final_completion()
    else:
        answer = client.chat.completions.create(**asked)
    (call,) = answer.choices[0].message.tool_calls or []
    assert (answer.choices[0].finish_reason, answer.choices[0].message.content or "") == ("tool_calls", "")
    assert call.type == "function"
    assert call.function.name in (["order"] if isinstance(choice, dict) else ["order", "bye"])
    schema = Order.model_json_schema() if call.function.name == "order" else {"maxProperties": 0}
    jsonschema.validate(json.loads(call.function.arguments), schema)


def test_several_choices_of_one_prompt(client: openai.OpenAI) -> None:
    ask: Any = client.chat.completions.create
    one = ask(model="shop", messages=USER, max_tokens=6, temperature=1.5, seed=3)
    answer = ask(model="shop", messages=USER, max_tokens=6, temperature=1.5, seed=3, n=3)
    texts = [choice.message.content for choice in answer.choices]
    assert [choice.index for choice in answer.choices] == [0, 1, 2]
    assert texts[0] == one.choices[0].message.content
    assert len(set(texts)) == 3
    assert answer.usage.prompt_tokens == one.usage.prompt_tokens
    assert answer.usage.completion_tokens <= 18


def test_prompts_of_texts_and_token_ids(client: openai.OpenAI, parts: Upstream) -> None:
    """The byte-level tokenizer's id of a letter is its place among its 256 letters."""
    alphabet = sorted(pre_tokenizers.ByteLevel.alphabet())
    ids = [alphabet.index(letter) for letter in "ab"]
    ask: Any = client.completions.create
    whole = ask(model="shop", prompt="cd", max_tokens=5)
    several = ask(model="shop", prompt=["cd", "ab"], max_tokens=5)
    by_ids = ask(model="shop", prompt=[ids], max_tokens=5)
    assert several.choices[0].text == whole.choices[0].text
    assert (several.choices[1].index, several.choices[1].text) == (1, by_ids.choices[0].text)
    assert several.usage.prompt_tokens == 4
    with pytest.raises(openai.BadRequestError, match="below the vocabulary's 258"):
        ask(model="shop", prompt=[258], max_tokens=5)


@pytest.mark.parametrize("stream", [False, True])
def test_logprobs_of_a_chat(client: openai.OpenAI, stream: bool) -> None:
    asked: Any = {"model": "shop", "messages": USER, "max_tokens": 6, "logprobs": True, "top_logprobs": 2}
    create: Any = client.chat.completions.create
    if stream:
        told = [c.choices[0].logprobs for c in create(stream=True, **asked)]
        entries = [entry for each in told if each for entry in each.content]
    else:
        entries = create(**asked).choices[0].logprobs.content
    assert len(entries) == 6
    for entry in entries:
        assert (entry.top_logprobs[0].token, entry.top_logprobs[0].logprob) == (entry.token, entry.logprob)
        assert 0 >= entry.top_logprobs[0].logprob >= entry.top_logprobs[1].logprob


def test_logprobs_of_a_completion_and_a_bias(client: openai.OpenAI) -> None:
    answer = client.completions.create(model="shop", prompt="ab", max_tokens=4, logprobs=1, logit_bias={"5": 100})
    told = answer.choices[0].logprobs
    assert told
    letter = sorted(pre_tokenizers.ByteLevel.alphabet())[5]
    assert answer.choices[0].text == letter * 4
    assert told.tokens == [letter] * 4
    assert told.text_offset == [0, 1, 2, 3]
    assert all(
        top[letter] == logprob for top, logprob in zip(told.top_logprobs or [], told.token_logprobs or [], strict=True)
    )


def test_echo_tells_the_prompts_logprobs_as_lm_eval_reads_them(client: openai.OpenAI) -> None:
    """What lm-eval's local-completions asks: token ids, echo, logprobs, one token."""
    alphabet = sorted(pre_tokenizers.ByteLevel.alphabet())
    ids = [alphabet.index(letter) for letter in "hello"]
    create: Any = client.completions.create
    asked: Any = {"model": "shop", "max_tokens": 1, "logprobs": 1, "echo": True, "temperature": 0}
    by_ids, by_text = (create(prompt=p, **asked).choices[0] for p in ([ids], "hello"))
    assert by_ids.text == by_text.text
    assert by_ids.text.startswith("hello")
    told = by_ids.logprobs
    assert told.tokens[:5] == list("hello")
    assert (len(told.tokens), told.token_logprobs[0], told.top_logprobs[0]) == (6, None, None)
    assert all(
        logprob <= max(top.values()) <= 0
        for logprob, top in zip(told.token_logprobs[1:], told.top_logprobs[1:], strict=True)
    )
    assert told.token_logprobs[1:5] == pytest.approx(by_text.logprobs.token_logprobs[1:5])
    streamed = [c.choices[0] for c in create(prompt="hello", stream=True, **asked)]
    assert "".join(c.text for c in streamed) == by_text.text
    assert [t for c in streamed if c.logprobs for t in c.logprobs.tokens] == by_text.logprobs.tokens
