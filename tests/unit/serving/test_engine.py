"""What an engine answers does not depend on how busy it is, and what fails for one request fails that one alone."""

import time
from collections.abc import Callable
from pathlib import Path
from typing import Any

import pytest
import torch
from transformers import LlamaForCausalLM

from services.lm.adapters import read_adapter
from services.lm.linear_product import can_pack
from services.serving.triton.backend import pieces
from services.serving.triton.backend.decoder import Decoder, Piece
from services.serving.triton.backend.engine import Engine
from services.serving.triton.backend.kv_cache import KVCache, Prompt, like_rows
from services.serving.triton.backend.pieces import Budget, blocks
from tests.integration.tiny_model import make_adapter, make_base
from tests.unit.serving.engines import Heard, ask, engine, prompt


@pytest.fixture(scope="module")
def base(tmp_path_factory: pytest.TempPathFactory) -> Path:
    folder = tmp_path_factory.mktemp("engine")
    for seed in (1, 2):
        make_adapter(folder / f"lora{seed}", seed=seed)
    return make_base(folder / "base")


def text_of(ids: list[int]) -> str:
    return "".join(chr(33 + i) for i in ids)


def transformers_own(base: Path, ids: list[int], tokens: int) -> str:
    model: Any = LlamaForCausalLM.from_pretrained(base, dtype=torch.float32)
    out = model.generate(torch.tensor([ids]), do_sample=False, min_new_tokens=tokens, max_new_tokens=tokens)
    return text_of(out[0, len(ids) :].tolist())


@pytest.mark.parametrize("length", [1, 2, 31, 32, 33, 64, 600, 2100])
def test_an_answer_is_that_of_transformers(base: Path, length: int) -> None:
    with engine(base) as one:
        assert ask(one, prompt(length), 12, min_tokens=12).whole()[0] == transformers_own(base, prompt(length), 12)


def test_an_answer_does_not_depend_on_neighbours_nor_on_how_prompts_are_cut(base: Path) -> None:
    with engine(base, max_num_seqs=16) as one:
        modules, like = one.decoder.modules, one.decoder.like
        loras = [read_adapter(f"lora{i}", base.parent / f"lora{i}", modules=modules, max_rank=8, like=like)
                 for i in (1, 2)]  # fmt: skip
        cases = [(prompt(5 + 83 * i, i), 10 + 5 * i, (None, *loras)[i % 3]) for i in range(14)]
        alone = [ask(one, *case).whole()[0] for case in cases]
        heard = [ask(one, *case) for case in cases]
        assert [each.whole()[0] for each in heard] == alone
        assert one.decoder.slots.count <= 16


def read(decoder: Decoder, ids: list[int], most: int, adapter: Any = None) -> torch.Tensor:
    kept, logits = Prompt(len(ids)), torch.empty(0)
    while kept.read < len(ids):
        logits = decoder.run([], [], [], pieces=[Piece(ids, adapter, kept, blocks(kept.read, most, len(ids)))])
    return torch.cat([logits.flatten(), *(each.flatten() for pair in kept.layers for each in pair)])


@pytest.mark.parametrize("adapted", [False, True])
def test_a_prompt_gives_the_same_keys_and_logits_however_it_is_cut(base: Path, adapted: bool) -> None:
    ids = prompt(2500)
    with engine(base) as one, torch.inference_mode():
        lora = read_adapter("a", base.parent / "lora1", modules=one.decoder.modules, max_rank=8, like=one.decoder.like)
        whole = read(one.decoder, ids, 10_000, lora if adapted else None)
        for most in (1, 100, 512):
            cut = read(one.decoder, ids, most, lora if adapted else None)
            torch.testing.assert_close(cut, whole, rtol=1e-4, atol=1e-4)
            if can_pack(torch.float32, one.decoder.device):
                assert torch.equal(cut, whole), "to the last bit with oneDNN's packed products"


def test_blocks_are_the_same_wherever_a_pass_ends() -> None:
    whole = blocks(0, 10_000, 3001)
    assert [at for block in whole for at in block[:1]] == [0, *(stop for _, stop in whole[:-1])]
    for most in (1, 20, 100, 513):
        found: list[tuple[int, int]] = []
        while not found or found[-1][1] < 3001:
            part = blocks(found[-1][1] if found else 0, most, 3001)
            assert len(part) == 1 or part[-1][1] - part[0][0] <= most
            found += part
        assert found == whole


def test_the_budget_keeps_passes_below_three_times_a_plain_one() -> None:
    budget, longest, read_in_all = Budget(), 0.0, 0
    for _ in range(600):
        tokens = budget.tokens(4, [8000])
        seconds = 0.05 + 0.001 * tokens  # so 75 tokens would be 2.5 times as long
        budget.took(seconds, 4, tokens)
        longest, read_in_all = max(longest, seconds), read_in_all + tokens
    assert longest < 3 * 0.05
    assert read_in_all > 600 * 40
    assert pieces.SLOWDOWN < 3


def failing(original: Callable[..., Any], when: Callable[..., bool]) -> Callable[..., Any]:
    def run(*args: Any, **kwargs: Any) -> Any:
        if when(*args, **kwargs):
            raise MemoryError("no memory for this one")
        return original(*args, **kwargs)

    return run


def started(one: Engine, count: int) -> list[Heard]:
    heard = [ask(one, prompt(20, seed), 150) for seed in range(count)]
    deadline = time.monotonic() + 20
    while len(one.rows) < count:
        assert time.monotonic() < deadline
    return heard


@pytest.mark.parametrize("place", ["read", "adopt", "row"])
def test_a_failed_allocation_fails_its_request_alone(base: Path, monkeypatch: pytest.MonkeyPatch, place: str) -> None:
    bad = prompt(90, 77)
    with engine(base, max_num_seqs=8) as one:
        alone = [ask(one, prompt(20, seed), 150).whole()[0] for seed in range(3)]
        if place == "read":
            when = lambda *_, pieces=(), **__: any(list(each.tokens) == bad and each.prompt.read for each in pieces)  # noqa: E731
            monkeypatch.setattr(Decoder, "run", failing(Decoder.run, when))
        elif place == "adopt":
            monkeypatch.setattr(KVCache, "adopt", failing(KVCache.adopt, lambda _, __, kept, ___: kept.length == 90))
        else:
            monkeypatch.setattr(
                Decoder, "run", failing(Decoder.run, lambda _, __, lengths, *___, **____: 100 in lengths)
            )
        heard = started(one, 3)
        _, end = ask(one, bad, 30).whole()
        assert end.error is not None
        assert "no memory for this one" in end.error
        if place == "row":  # the others come to that length, too
            assert all("no memory" in str(each.whole()[1].error) for each in heard)
        else:
            assert [each.whole()[0] for each in heard] == alone
        monkeypatch.undo()
        assert ask(one, bad, 30).whole()[1].finish_reason == "length"
        assert ask(one, prompt(20, 0), 150).whole()[0] == alone[0]


def test_slots_grow_and_are_given_back(base: Path) -> None:
    with engine(base, max_num_seqs=32) as one:
        heard = [ask(one, prompt(10, seed), 400) for seed in range(20)]
        deadline, most = time.monotonic() + 120, 0
        while one.rows or one.reading or one.waiting:
            assert time.monotonic() < deadline
            most = max(most, one.decoder.slots.count)
            time.sleep(0.002)
        ends = [each.whole()[1] for each in heard]
        assert [(end.finish_reason, end.error) for end in ends] == [("length", None)] * 20
        assert most == 32
        one_more = ask(one, prompt(3), 5).whole()
        assert one_more[1].finish_reason == "length"
        assert one.decoder.slots.count <= 1


def test_no_more_run_than_there_is_memory_for(base: Path) -> None:
    with engine(base, max_num_seqs=32) as one:
        one.decoder.room = 4 * 256 + 100
        heard = [ask(one, prompt(10, seed), 100) for seed in range(12)]
        most, deadline = 0, time.monotonic() + 120
        while one.rows or one.reading or one.waiting:
            assert time.monotonic() < deadline
            most = max(most, one.decoder.slots.count)
            time.sleep(0.002)
        assert [each.whole()[1].finish_reason for each in heard] == ["length"] * 12
        assert most == 4
        assert ask(one, prompt(2000), 3).whole()[1].finish_reason == "length", "one alone always runs"


def test_prompts_that_come_together_are_read_together(base: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    passes: list[int] = []
    original = Decoder.run

    def run(self: Decoder, *args: Any, pieces: Any = (), **kwargs: Any) -> torch.Tensor:
        passes.append(len(pieces))
        return original(self, *args, pieces=pieces, **kwargs)

    with engine(base, max_num_seqs=16) as one:
        with one.changed:  # so that none is read before all are there
            heard = [ask(one, prompt(20, seed), 10) for seed in range(8)]
            monkeypatch.setattr(Decoder, "run", run)
        together = [each.whole()[0] for each in heard]
        assert max(passes) >= 3, "64 tokens are the first pass's"
        monkeypatch.undo()
        assert [ask(one, prompt(20, seed), 10).whole()[0] for seed in range(8)] == together


def test_a_crowd_of_short_prompts_is_read_to_its_end_and_a_long_one_is_none() -> None:
    budget = Budget()
    budget.tokens(0, [100] * 8)
    budget.took(0.1, 0, 64)
    free = budget.tokens(0, [100] * 8)
    assert budget.tokens(3, [100] * 5) == free, "a crowd"
    assert budget.tokens(7, [100]) == free, "until the last of it"
    assert budget.tokens(8, [8000] * 9) < free, "long prompts are none"
    assert budget.tokens(8, [100] * 8) < free, "nor as many as rows run"
    assert budget.tokens(1, [100] * 3) < free, "nor a few"
    assert budget.tokens(1, [100] * 4) == free
    assert budget.tokens(5, []) == 0
    assert budget.tokens(5, [100]) < free, "and nothing is left of a crowd that was read"


@pytest.mark.skipif(not can_pack(torch.float32, torch.device("cpu")), reason="no packed products here")
def test_a_rows_logits_are_the_same_to_the_last_bit_alone_and_among_others_of_other_lengths(base: Path) -> None:
    with engine(base, max_num_seqs=16) as one, torch.inference_mode():
        decoder, lengths = one.decoder, [3, 60, 64, 65, 130, 300, 9, 40, 200, 33, 12]
        modules, like = decoder.modules, decoder.like
        lora = read_adapter("a", base.parent / "lora1", modules=modules, max_rank=8, like=like)
        adapters = [(None, lora)[slot % 2] for slot in range(len(lengths))]
        for slot, length in enumerate(lengths):
            kept = Prompt(length)
            decoder.run([], [], [], pieces=[Piece(prompt(length, slot), None, kept, blocks(0, length, length))])
            decoder.slots.adopt(slot, kept, max(lengths) + 1)
        beside = [Piece(prompt(50, 99), lora, Prompt(50), blocks(0, 50, 50)), Piece([1, 2], None, Prompt(2), [(0, 2)])]
        together = decoder.run([7] * len(lengths), lengths, adapters, pieces=beside)
        for slot, length in enumerate(lengths):
            alone = decoder.run([7], [length], [adapters[slot]], first=slot)[0]
            assert torch.equal(alone, together[slot])


def test_rows_of_like_length_attend_together_and_a_long_one_alone() -> None:
    assert like_rows([]) == []
    assert like_rows([2] * 32) == [(0, 32, 2)]
    assert like_rows([1, 1, 1, 30, 1, 1]) == [(0, 3, 1), (3, 4, 30), (4, 6, 1)]
    assert like_rows([3, 4, 3, 4]) == [(0, 4, 4)]


def test_a_prompts_own_probabilities_are_transformers(base: Path) -> None:
    """Of a prompt read in pieces, between others, and of one whose beginning is known."""
    ids = prompt(150)
    model: Any = LlamaForCausalLM.from_pretrained(base, dtype=torch.float32)
    expected = model(torch.tensor([ids])).logits[0, :-1].log_softmax(-1).detach()
    with engine(base) as one:
        ask(one, ids, 2).whole()
        others = [ask(one, prompt(90, seed), 4) for seed in (1, 2)]
        heard = ask(one, ids, 2, prompt_logprobs=1, logprobs=0)
        deltas = [heard.deltas.get(timeout=30) for _ in range(2)]
        assert all(each.whole()[1].error is None for each in others)
    told = [score for delta in deltas for score in delta.prompt_logprobs]
    assert [next(iter(score)) for score in told] == ids
    assert told[0][ids[0]]["logprob"] is None
    for score, token, line in zip(told[1:], ids[1:], expected, strict=True):
        assert score[token]["logprob"] == pytest.approx(float(line[token]), abs=1e-3)
        assert min(each["rank"] for each in score.values()) == 1
        assert score[token]["rank"] == 1 + int((line > line[token]).sum())
    assert sum(len(delta.logprobs) for delta in deltas) == 2
