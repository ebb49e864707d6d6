"""What a request for embeddings asks, in which parts it is computed, and its answer in OpenAI's shape. Knows no model's code.

Sources: https://platform.openai.com/docs/api-reference/embeddings; the model's own limits are those of its published
configuration (sentence-transformers/all-MiniLM-L6-v2: sentence_bert_config.json, 1_Pooling/config.json).
The span: gen-ai-spans.md ("Embeddings") at the commit that generation_span.py names.
"""

import base64
import json
from array import array
from collections.abc import Sequence
from typing import Annotated, Any, Literal, cast

from pydantic import BaseModel, BeforeValidator, ConfigDict, Field

from services.serving.domain.errors import Invalid, ModelNotFound
from services.serving.domain.generation_span import PROVIDER
from services.serving.domain.parameters import Names
from services.serving.domain.requests import validated
from services.serving.domain.routing import EMBEDDER, Routes, resolve

DIMENSIONS = 384
MAX_TOKENS = 256
"""Of one text, [CLS] and [SEP] included; the model was trained and is published with it, though it has 512 positions."""
MAX_INPUTS = 2048
MAX_REQUEST_TOKENS = 300_000
PART_TOKENS = 512
"""Of one pass of the model, padding included. One of 512 tokens was as fast as any (docs/decisions/0028-embeddings.md)."""

_NAMES = Names({"truncate_prompt_tokens": (), "add_special_tokens": (True,), "input_type": (), "truncate": ("NONE",)})
"""Parameters of vLLM's and NVIDIA's endpoints that would change the answer."""


def _texts(value: Any) -> Any:
    """A text, or a list of them."""
    items: list[Any] = cast(list[Any], value) if isinstance(value, list) else [value]
    if any(isinstance(item, int | list) for item in items):
        raise ValueError(
            f"token ids are not taken: they would have to be {EMBEDDER}'s own, and clients send another model's; send texts"
            " (langchain-openai does with check_embedding_ctx_length=False)"
        )
    if not all(isinstance(item, str) and item for item in items):
        raise ValueError("give a text or a list of texts, and none of them empty")
    return items


class EmbeddingsBody(BaseModel):
    """The body of a request to /v1/embeddings."""

    model_config = ConfigDict(extra="ignore", strict=True)

    model: str = Field(min_length=1, max_length=200)
    input: Annotated[
        list[str],
        BeforeValidator(_texts, json_schema_input_type=str | list[str]),
        Field(min_length=1, max_length=MAX_INPUTS),
    ]
    encoding_format: Literal["float", "base64"] = "float"
    dimensions: int | None = None
    user: str | None = Field(default=None, max_length=1000)


def parse_embeddings(body: bytes) -> EmbeddingsBody:
    """The request of a body to /v1/embeddings.

    Raises:
        Invalid: with the parameter at fault.
    """
    asked = validated(EmbeddingsBody, body, _NAMES)
    if asked.dimensions not in (None, DIMENSIONS):
        said = f"dimensions: {EMBEDDER} gives {DIMENSIONS} and cannot give {asked.dimensions}; leave it out"
        raise Invalid(said, "invalid_value", "dimensions")
    return asked


def check_model(routes: Routes, name: str) -> None:
    """Whether a request's `model` makes embeddings.

    Raises:
        Invalid: it generates text.
        ModelNotFound: nothing answers to the name.
    """
    if name == EMBEDDER:
        return
    try:
        resolve(routes, name)
    except ModelNotFound as fault:
        raise ModelNotFound(f"{fault.message} Embeddings are made by {EMBEDDER!r}.") from fault
    raise Invalid(f"{name} generates text and makes no embeddings; ask {EMBEDDER}", "invalid_value", "model")


def check_lengths(lengths: Sequence[int]) -> None:
    """Whether texts of so many tokens can be embedded.

    Raises:
        Invalid: one is too long, or all are together.
    """
    for index, length in enumerate(lengths):
        if length > MAX_TOKENS:
            raise Invalid(
                f"This model's maximum context length is {MAX_TOKENS} tokens; input {index} has {length}: shorten or split it",
                "context_length_exceeded",
                "input",
            )
    if sum(lengths) > MAX_REQUEST_TOKENS:
        said = f"input: {sum(lengths)} tokens in one request, and {MAX_REQUEST_TOKENS} are the most; send several"
        raise Invalid(said, "max_tokens_per_request", "input")


def parts(lengths: Sequence[int], tokens: int = PART_TOKENS) -> list[list[int]]:
    """The places of the texts that are computed together: of like lengths, at most `tokens` with padding, one at least."""
    found: list[list[int]] = []
    widest = 0
    for index in sorted(range(len(lengths)), key=lambda i: -lengths[i]):
        if found and widest * (len(found[-1]) + 1) <= tokens:
            found[-1].append(index)
        else:
            found.append([index])
            widest = lengths[index]
    return found


def item(index: int, vector: bytes, encoding_format: str) -> bytes:
    """One embedding of an answer. `vector`: its float32 values, little-endian, which `base64` gives as they are."""
    shown = base64.b64encode(vector).decode() if encoding_format == "base64" else array("f", vector).tolist()
    return json.dumps({"object": "embedding", "index": index, "embedding": shown}, separators=(",", ":")).encode()


def answer(items: Sequence[bytes], tokens: int) -> bytes:
    """The body of an answer; every token that the model read is counted, [CLS] and [SEP] too."""
    rest = json.dumps({"model": EMBEDDER, "usage": {"prompt_tokens": tokens, "total_tokens": tokens}})
    return b'{"object":"list","data":[' + b",".join(items) + b"]," + rest[1:].encode()


def embedder_card() -> dict[str, Any]:
    """OpenAI's model object. It belongs to no project, is as old as what it was packaged from, and loaded when it is asked."""
    return {
        "id": EMBEDDER,
        "object": "model",
        "created": 1_630_281_600,
        "owned_by": "noria",
        "root": EMBEDDER,
        "ready": True,
    }


def embeddings_span(encoding_format: str, tokens: int) -> tuple[str, dict[str, str | bool | int | float | list[str]]]:
    """Name and attributes of the span of a request; no text of anybody is in it."""
    return f"embeddings {EMBEDDER}", {
        "gen_ai.operation.name": "embeddings",
        "gen_ai.provider.name": PROVIDER,
        "gen_ai.request.model": EMBEDDER,
        "gen_ai.request.encoding_formats": [encoding_format],
        "gen_ai.embeddings.dimension.count": DIMENSIONS,
        "gen_ai.usage.input_tokens": tokens,
    }
