"""Embeddings on a real Triton, beside a model that generates, through the real openai and LangChain clients."""

import os
import random
import signal
from collections.abc import Iterator, Sequence
from pathlib import Path
from typing import Any

import httpx
import numpy as np
import openai
import pytest

from compose.local import assets
from compose.local.settings import StackSettings
from services.serving.triton import launch
from tests.integration.serving_parts import Stack, Upstream, openai_client, shop, until

MODEL = "all-MiniLM-L6-v2"
WORDS = Path(__file__).read_text().split()
SENTENCES = ("The weather is lovely today.", "It's so sunny outside!", "He drove to the stadium.")
PUBLISHED = ((1.0, 0.6660, 0.1046), (0.6660, 1.0, 0.1411), (0.1046, 0.1411, 1.0))
"""Their similarities as sbert.net's quickstart prints them for this model; the packaged weights are rounded to eight bits."""


@pytest.fixture(scope="module")
def parts(kafka: str) -> Iterator[Upstream]:
    assets.make(StackSettings(), only="embedder")
    with shop(kafka) as upstream:
        yield upstream


@pytest.fixture
def client(parts: Upstream) -> openai.OpenAI:
    return openai_client(parts.stack)


def embed(client: openai.OpenAI, texts: str | Sequence[str], **options: Any) -> Any:
    answer = client.embeddings.create(model=MODEL, input=texts if isinstance(texts, str) else list(texts), **options)
    assert [each.index for each in answer.data] == list(range(len(answer.data)))
    return np.array([each.embedding for each in answer.data])


def mixed(count: int) -> list[str]:
    """Texts of 1 to 60 words, the lengths out of order."""
    dice = random.Random(7)
    return [f"{n} " + " ".join(dice.choices(WORDS, k=dice.choice((1, 3, 10, 30)))) for n in range(count)]


def embedder_stubs(stack: Stack) -> list[int]:
    prefix = launch.TritonSettings(stack.home.resolve()).shared_memory_prefix
    return [pid for pid in launch.stubs(prefix) if MODEL in Path(f"/proc/{pid}/cmdline").read_text(errors="replace")]


def say(client: openai.OpenAI) -> str | None:
    asked: Any = [{"role": "user", "content": "hello"}]
    return client.chat.completions.create(model="shop", messages=asked, temperature=0).choices[0].message.content


def test_nothing_is_loaded_before_somebody_asks(parts: Upstream, client: openai.OpenAI) -> None:
    assert embedder_stubs(parts.stack) == []
    assert MODEL in [model.id for model in client.models.list()]
    assert client.models.retrieve(MODEL).id == MODEL
    embed(client, "hello")
    assert len(embedder_stubs(parts.stack)) == 1


def test_similarities_are_the_published_ones(client: openai.OpenAI) -> None:
    found = embed(client, SENTENCES)
    assert found.shape == (3, 384)
    assert np.abs(np.linalg.norm(found, axis=1) - 1).max() < 1e-5
    assert np.abs(found @ found.T - PUBLISHED).max() < 0.005


def test_a_batch_is_as_one_by_one_and_in_its_order(client: openai.OpenAI) -> None:
    texts = mixed(200)
    found = embed(client, texts)
    assert found.shape == (200, 384)
    for place in range(0, 200, 9):
        assert np.abs(found[place] - embed(client, texts[place])[0]).max() < 1e-5, place


def test_both_encodings_and_the_usage(client: openai.OpenAI) -> None:
    base64 = embed(client, SENTENCES)  # the client's own choice, where it is given none
    assert np.array_equal(base64, embed(client, SENTENCES, encoding_format="float"))
    usage = client.embeddings.create(model=MODEL, input="hello").usage
    assert (usage.prompt_tokens, usage.total_tokens) == (3, 3)


def test_the_longest_text_and_one_token_more(client: openai.OpenAI) -> None:
    embed(client, "word " * 254)
    with pytest.raises(openai.BadRequestError, match="maximum context length is 256 tokens") as refused:
        embed(client, ["short", "word " * 255])
    assert refused.value.code == "context_length_exceeded"


def test_each_route_refuses_the_other_s_models(client: openai.OpenAI) -> None:
    with pytest.raises(openai.BadRequestError, match="shop generates text"):
        client.embeddings.create(model="shop", input="x")
    with pytest.raises(openai.BadRequestError, match="ask it at /v1/embeddings"):
        client.chat.completions.create(model=MODEL, messages=[{"role": "user", "content": "x"}])


def test_a_killed_embedder_is_back_and_chat_does_not_notice(parts: Upstream, client: openai.OpenAI) -> None:
    before, said = embed(client, SENTENCES), say(client)
    (old,) = embedder_stubs(parts.stack)
    os.kill(old, signal.SIGKILL)

    refusals: list[tuple[int, bool]] = []

    def again() -> bool | None:
        assert parts.stack.running["triton"].poll() is None
        assert say(client) == said
        assert parts.stack.ready()
        try:
            return np.array_equal(embed(client, SENTENCES), before)
        except openai.InternalServerError as error:
            refusals.append((error.status_code, "retry-after" in error.response.headers))
            return None

    until(again, 60, "embeddings are back")
    assert embedder_stubs(parts.stack) not in ([], [old])
    assert set(refusals) == {(503, True)}


def test_a_gateway_that_starts_takes_up_what_triton_holds(parts: Upstream, client: openai.OpenAI) -> None:
    embed(client, "hello")
    held = embedder_stubs(parts.stack)
    parts.stack.kill("serving")
    parts.stack.start("serving")
    parts.stack.wait_for("shop", "shop@1", 60)
    embed(client, "hello")
    assert embedder_stubs(parts.stack) == held


def test_metrics_tell_of_embeddings(parts: Upstream, client: openai.OpenAI) -> None:
    embed(client, "hello")
    shown = httpx.get(f"{parts.stack.url}/metrics").text
    assert f'noria_serving_embedding_seconds_count{{model="{MODEL}"}}' in shown
    assert f'noria_serving_embedding_tokens_total{{model="{MODEL}"}}' in shown
    assert 'noria_serving_requests_total{endpoint="embeddings",status="ok"}' in shown
