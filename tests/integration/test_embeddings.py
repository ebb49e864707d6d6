"""Embeddings on a real Triton, beside a model that generates, through the real openai client."""

import os
import random
import signal
import uuid
from collections.abc import Iterator, Sequence
from pathlib import Path
from threading import Thread
from typing import Any

import httpx
import numpy as np
import openai
import pytest

from compose.local import assets
from compose.local.settings import StackSettings
from services.serving.triton import launch
from tests.integration.otlp_receiver import Receiver
from tests.integration.serving_parts import Stack, Upstream, openai_client, shop, until

MODEL = "all-MiniLM-L6-v2"
WORDS = Path(__file__).read_text().split()
SENTENCES = ("The weather is lovely today.", "It's so sunny outside!", "He drove to the stadium.")
PUBLISHED = ((1.0, 0.6660, 0.1046), (0.6660, 1.0, 0.1411), (0.1046, 0.1411, 1.0))
"""Their similarities as sbert.net's quickstart prints them for this model; the packaged weights are rounded to eight bits."""


@pytest.fixture(scope="module")
def receiver() -> Iterator[Receiver]:
    receiver = Receiver()
    yield receiver
    receiver.stop()


@pytest.fixture(scope="module")
def parts(kafka: str, receiver: Receiver) -> Iterator[Upstream]:
    assets.make(StackSettings(), only="embedder")
    with shop(kafka, {"OTEL_EXPORTER_OTLP_ENDPOINT": receiver.url, "OTEL_BSP_SCHEDULE_DELAY": "200"}) as upstream:
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


def test_one_that_dies_unseen_is_back_before_the_next_request(parts: Upstream, client: openai.OpenAI) -> None:
    before = embed(client, SENTENCES)
    (old,) = embedder_stubs(parts.stack)
    os.kill(old, signal.SIGKILL)
    until(lambda: set(embedder_stubs(parts.stack)) - {old} or None, 30, "a new process")
    assert np.array_equal(embed(client, SENTENCES), before)


def test_long_requests_delay_a_short_one_by_a_part_or_two(client: openai.OpenAI) -> None:
    ended: list[str] = []

    def long() -> None:
        embed(client, [f"{number} {'word ' * 120}" for number in range(60)])
        ended.append("long")

    threads = [Thread(target=long) for _ in range(3)]  # more than are with Triton at once
    for thread in threads:
        thread.start()
    for _ in range(3):
        embed(client, "hello")
        ended.append("short")
    for thread in threads:
        thread.join()
    assert ended == ["short"] * 3 + ["long"] * 3


def test_a_gateway_that_starts_takes_up_what_triton_holds(parts: Upstream, client: openai.OpenAI) -> None:
    embed(client, "hello")
    held = embedder_stubs(parts.stack)
    parts.stack.kill("serving")
    parts.stack.start("serving")
    parts.stack.wait_for("shop", "shop@1", 60)
    embed(client, "hello")
    assert embedder_stubs(parts.stack) == held


def test_a_request_for_embeddings_is_a_span_of_its_trace(client: openai.OpenAI, receiver: Receiver) -> None:
    trace = uuid.uuid4().hex
    embed(client, "hello", extra_headers={"traceparent": f"00-{trace}-b7ad6b7169203331-01"})
    request = until(lambda: receiver.find(trace, "noria-serving", "POST /v1/embeddings"), 20, "the request's span")
    span = until(lambda: receiver.find(trace, "noria-serving", f"embeddings {MODEL}"), 20, "the span of the embeddings")
    assert (span["parent"], span["gen_ai.usage.input_tokens"]) == (request["id"], "3")


def test_metrics_tell_of_embeddings(parts: Upstream, client: openai.OpenAI) -> None:
    embed(client, "hello")
    shown = httpx.get(f"{parts.stack.url}/metrics").text
    assert f'noria_serving_embedding_seconds_count{{model="{MODEL}"}}' in shown
    assert f'noria_serving_embedding_tokens_total{{model="{MODEL}"}}' in shown
    assert 'noria_serving_requests_total{endpoint="embeddings",status="ok"}' in shown
