"""How likely the model found the tokens of an answer, in OpenAI's shapes, from vLLM's. Pure.

A score is {token id: {"logprob", "rank", "decoded_token"}} with the chosen token first, and the likeliest ones.
Sources: https://platform.openai.com/docs/api-reference/chat/object (logprobs), .../completions/object.
"""

from collections.abc import Mapping, Sequence
from typing import Any

Score = Mapping[str, Mapping[str, Any]]


def chat_logprobs(scores: Sequence[Score], count: int) -> dict[str, Any]:
    """The `logprobs` of a chat's choice, each token with its `count` likeliest."""
    return {
        "content": [_entry(_chosen(each)) | {"top_logprobs": _top(each, count)} for each in scores],
        "refusal": None,
    }


def text_logprobs(scores: Sequence[Score], count: int, offset: int = 0) -> dict[str, Any]:
    """The `logprobs` of a completion's choice, whose text before them has `offset` characters."""
    tokens = [str(_chosen(each)["decoded_token"]) for each in scores]
    places = [offset + sum(map(len, tokens[:i])) for i in range(len(tokens))]
    return {
        "tokens": tokens,
        "token_logprobs": [_chosen(each)["logprob"] for each in scores],
        "top_logprobs": [_likeliest(each, count) for each in scores] if count else None,
        "text_offset": places,
    }


def _chosen(score: Score) -> Mapping[str, Any]:
    return next(iter(score.values()))


def _ranked(score: Score, count: int) -> list[Mapping[str, Any]]:
    return [each for each in sorted(score.values(), key=lambda each: each["rank"]) if each["rank"] <= count]


def _entry(token: Mapping[str, Any]) -> dict[str, Any]:
    text = str(token["decoded_token"])
    return {"token": text, "logprob": token["logprob"], "bytes": list(text.encode())}


def _top(score: Score, count: int) -> list[dict[str, Any]]:
    return [_entry(each) for each in _ranked(score, count)]


def _likeliest(score: Score, count: int) -> dict[str, float] | None:
    """By text; the chosen token is there whatever its rank. Of tokens with one text the likelier counts."""
    if _chosen(score)["logprob"] is None:
        return None
    found: dict[str, float] = {}
    for each in (*_ranked(score, count), _chosen(score)):
        found.setdefault(str(each["decoded_token"]), each["logprob"])
    return found
