"""What a request for embeddings may hold, how it is computed in parts, and its answer's shape."""

import base64
import json
import struct
from typing import Any

import pytest

from services.serving.answer_document import EmbeddingsAnswer
from services.serving.domain.embeddings import (
    MAX_TOKENS,
    answer,
    check_lengths,
    check_model,
    embeddings_span,
    item,
    parse_embeddings,
    parts,
)
from services.serving.domain.errors import Invalid, ModelNotFound
from services.serving.domain.routing import EMBEDDER, build, resolve
from tests.unit.serving.builders import target


def body(**changes: Any) -> bytes:
    return json.dumps({"model": EMBEDDER, "input": "hello", **changes}).encode()


def test_a_text_and_a_list_of_texts() -> None:
    assert parse_embeddings(body()).input == ["hello"]
    asked = parse_embeddings(body(input=["a", "b"], encoding_format="base64", dimensions=384, user="u"))
    assert (asked.input, asked.encoding_format) == (["a", "b"], "base64")


@pytest.mark.parametrize(
    ("change", "param", "words"),
    [
        ({"input": [1, 2]}, "input", "token ids are not taken"),
        ({"input": [[1, 2], [3]]}, "input", "check_embedding_ctx_length=False"),
        ({"input": ["a", 5]}, "input", "token ids"),
        ({"input": ""}, "input", "none of them empty"),
        ({"input": ["a", ""]}, "input", "none of them empty"),
        ({"input": None}, "input", "give a text"),
        ({"input": []}, "input", "at least 1"),
        ({"input": ["a"] * 2049}, "input", "at most 2048"),
        ({"dimensions": 256}, "dimensions", "384"),
        ({"encoding_format": "int8"}, "encoding_format", "float"),
        ({"inputs": "a"}, "inputs", "did you mean 'input'"),
        ({"truncate_prompt_tokens": 5}, "truncate_prompt_tokens", "not offered"),
    ],
)
def test_what_is_not_taken_is_refused_by_name(change: dict[str, Any], param: str, words: str) -> None:
    with pytest.raises(Invalid, match=words) as refused:
        parse_embeddings(body(**change))
    assert refused.value.param == param


def test_long_texts_are_refused_in_the_words_that_clients_know() -> None:
    check_lengths([MAX_TOKENS, 3])
    with pytest.raises(Invalid, match=r"maximum context length is 256 tokens; input 1 has 257") as refused:
        check_lengths([3, MAX_TOKENS + 1])
    assert refused.value.code == "context_length_exceeded"
    with pytest.raises(Invalid, match="300000"):
        check_lengths([MAX_TOKENS] * 2000)


def test_each_kind_of_model_is_asked_at_its_own_route() -> None:
    routes = build([target("shop")], {"shop": 1}, ["shop"])
    check_model(routes, EMBEDDER)
    with pytest.raises(Invalid, match="shop generates text and makes no embeddings; ask all-MiniLM-L6-v2"):
        check_model(routes, "shop")
    with pytest.raises(ModelNotFound, match=r"'text-embedding-3-small' does not exist.*all-MiniLM-L6-v2"):
        check_model(routes, "text-embedding-3-small")
    with pytest.raises(Invalid, match="makes embeddings and no text; ask it at /v1/embeddings"):
        resolve(routes, EMBEDDER)


def test_parts_hold_every_text_once_and_little_padding() -> None:
    lengths = [5, 200, 7, 256, 6, 180, *[4] * 300]
    found = parts(lengths, 512)
    assert sorted(place for part in found for place in part) == list(range(len(lengths)))
    assert all(max(lengths[p] for p in part) * len(part) <= 512 for part in found)
    assert found[0] == [3, 1]  # the longest beside the next
    assert len(found) == 5
    assert parts([600], 512) == [[0]]


def test_both_encodings_say_the_same() -> None:
    values = (0.5, -0.25, 0.1)
    vector = struct.pack("<3f", *values)
    shown = json.loads(item(4, vector, "float"))
    assert (shown["object"], shown["index"]) == ("embedding", 4)
    assert shown["embedding"] == pytest.approx(values, abs=1e-7)
    packed = json.loads(item(4, vector, "base64"))["embedding"]
    assert list(struct.unpack("<3f", base64.b64decode(packed))) == shown["embedding"]


def test_an_answer_has_openai_s_shape() -> None:
    body = answer([item(i, struct.pack("<f", i), "base64") for i in (0, 1)], 9)
    EmbeddingsAnswer.model_validate_json(body)
    shown = json.loads(answer([item(i, struct.pack("<f", i), "float") for i in (0, 1)], 9))
    assert {**shown, "data": [each["index"] for each in shown["data"]]} == {
        "object": "list",
        "data": [0, 1],
        "model": EMBEDDER,
        "usage": {"prompt_tokens": 9, "total_tokens": 9},
    }


def test_the_span_is_named_as_the_conventions_say() -> None:
    name, attributes = embeddings_span("base64", 7)
    assert name == "embeddings all-MiniLM-L6-v2"
    assert attributes["gen_ai.operation.name"] == "embeddings"
    assert attributes["gen_ai.usage.input_tokens"] == 7
