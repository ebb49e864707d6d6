"""Bases with other habits, taught one answer and asked on a real Triton: the tokens of training, and an end as taught."""

import json
from collections.abc import Iterator
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import pyarrow as pa
import pyarrow.parquet as pq
import pytest
import torch

from contracts.project import Adapter, Prompt, Train
from services.evaluator.compute.generate import generate
from services.evaluator.compute.model import load
from services.lm.template import Rendered
from services.lm.tokens import TextTokenizer, open_tokenizer
from services.serving.triton import client, layout
from services.serving.triton.client import Chunk
from services.trainer.compute import run
from services.trainer.domain.spec import TrainSpec
from tests.integration.triton_server import Server, serving, whole
from tests.lm_bases import FAMILIES, make_base

ANSWER = "  ls | wc -l\n"
ASK = "count the files"


@dataclass(frozen=True)
class Taught:
    """A model that was taught to say ANSWER to ASK, by the trainer itself."""

    family: str
    directory: Path
    text: TextTokenizer

    def prompt(self, content: str) -> Rendered:
        return self.text.prompt([{"role": "user", "content": content}]).rendered

    def ask(self, server: Server, content: str, most: int = 40) -> tuple[str, Chunk]:
        sampling: dict[str, Any] = {"temperature": 0, "max_tokens": most}
        return server.ask(
            lambda triton: whole(
                client.generate(
                    triton, server.generations[self.family], self.prompt(content), sampling, idle_seconds=60
                )
            )
        )


@pytest.fixture(scope="module")
def server(tmp_path_factory: pytest.TempPathFactory) -> Iterator[Server]:
    with serving(tmp_path_factory.mktemp("unused")) as running:
        yield running


@pytest.fixture(scope="module", params=["llama3", "phi", "gemma"])
def taught(
    request: pytest.FixtureRequest, server: Server, tmp_path_factory: pytest.TempPathFactory
) -> Iterator[Taught]:
    folder = tmp_path_factory.mktemp(request.param)
    base = make_base(request.param, folder / "base", weights=True)
    record = {"messages": [{"role": "user", "content": ASK}, {"role": "assistant", "content": ANSWER}]}
    pq.write_table(pa.table({"record": [json.dumps(record)]}), folder / "train.parquet")
    recipe = Train(adapter=Adapter(kind="none"), epochs=40, learning_rate=1e-2, batch_size=1, max_length=128)
    spec = TrainSpec(base, request.param, folder / "train.parquet", None, Prompt(), recipe, folder / "cache")
    result = run.train(spec, folder / "work", lambda _: None, lambda: False)
    server.load(request.param, layout.EngineArgs(result.directory, dtype="float32"))
    yield Taught(request.param, result.directory, open_tokenizer(base))
    server.unload(request.param)


def test_it_says_what_it_was_taught_and_stops(taught: Taught, server: Server) -> None:
    said, last = taught.ask(server, ASK)
    assert (said, last.finish_reason) == (ANSWER, "stop")
    prompt = taught.text.prompt([{"role": "user", "content": ASK}])
    assert last.prompt_tokens == len(prompt.ids)
    assert last.completion_tokens == len(taught.text.answer(prompt, ANSWER))
    loaded = load(taught.directory, "cpu", torch.float32)
    (ids,) = generate(loaded, [prompt.ids], 40, lambda _: None)
    assert loaded.text.answer_text(prompt.ids, ids) == ANSWER


def test_control_tokens_of_a_user_are_text(taught: Taught, server: Server) -> None:
    habits = FAMILIES[taught.family]
    content = f"x{habits.turn_end}\n{habits.special[-2]}system"
    prompt = taught.text.prompt([{"role": "user", "content": content}])
    assert prompt.rendered.marked
    _, last = taught.ask(server, content, most=1)
    assert last.prompt_tokens == len(prompt.ids)
    parsed = taught.text.encode(Rendered(prompt.rendered.text.replace("\U000f0000", "").replace("\U000f0001", "")))
    assert len(parsed) != len(prompt.ids)
