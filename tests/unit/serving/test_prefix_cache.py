"""What prompts begin with is read once, for each adapter, and is what reading it anew would give."""

from pathlib import Path

import pytest
import torch

from services.lm.adapters import Adapter, read_adapter
from services.serving.triton.backend.decoder import Piece
from services.serving.triton.backend.engine import Engine
from services.serving.triton.backend.kv_cache import Prompt
from services.serving.triton.backend.pieces import BLOCKS, SMALLEST, blocks
from services.serving.triton.backend.prefix_cache import UNIT, PrefixCache
from tests.integration.tiny_model import make_adapter, make_base
from tests.unit.serving.engines import ask, engine, prompt


@pytest.fixture(scope="module")
def base(tmp_path_factory: pytest.TempPathFactory) -> Path:
    folder = tmp_path_factory.mktemp("prefix")
    make_adapter(folder / "lora", seed=1)
    return make_base(folder / "base")


def lora(one: Engine, base: Path) -> Adapter:
    return read_adapter("a", base.parent / "lora", modules=one.decoder.modules, max_rank=8, like=one.decoder.like)


def test_units_end_where_blocks_do() -> None:
    assert all(UNIT % size == 0 and below % UNIT == 0 for below, size in BLOCKS)
    assert UNIT % SMALLEST == 0


def test_a_kept_beginning_is_what_reading_gives(base: Path) -> None:
    ids, cache = prompt(700), PrefixCache(10_000)
    with engine(base) as one, torch.inference_mode():

        def read(kept: Prompt, adapter: Adapter | None) -> torch.Tensor:
            logits = torch.empty(0)
            while kept.read < len(ids):
                piece = Piece(ids, adapter, kept, blocks(kept.read, 1, len(ids)))
                logits = one.decoder.run([], [], [], pieces=[piece])
            return logits

        for adapter in (None, lora(one, base)):
            anew = Prompt(len(ids))
            logits = read(anew, adapter)
            assert cache.begin(ids, adapter).read == 0, "another adapter's beginning is not its"
            cache.keep(ids, adapter, anew)
            again = cache.begin(ids, adapter)
            assert again.read == 640
            assert torch.equal(read(again, adapter), logits)
            for kept, first in zip(again.layers, anew.layers, strict=True):
                assert torch.equal(kept[0], first[0])
                assert torch.equal(kept[1], first[1])


def test_a_shared_system_prompt_is_read_once(base: Path) -> None:
    system = prompt(1000)
    questions = [system + prompt(20 + seed, seed + 1) for seed in range(5)]
    with engine(base) as cold:
        cold.prefixes.room = 0
        anew = [ask(cold, ids, 20).whole()[0] for ids in questions]
        assert not cold.prefixes.units
        cold_steps = cold.status()["steps"]
    with engine(base) as warm:
        adapter = lora(warm, base)
        assert [ask(warm, ids, 20).whole()[0] for ids in questions] == anew
        assert len(warm.prefixes.units) == 15, "the shared part once"
        assert warm.status()["steps"] < cold_steps
        for ids in questions:
            ask(warm, ids, 20, adapter).whole()
        assert len(warm.prefixes.units) == 30, "and once for an adapter"


def test_it_holds_no_more_than_its_room_and_what_was_used_last() -> None:
    cache = PrefixCache(10 * UNIT)

    def kept(ids: list[int]) -> Prompt:
        tensor = torch.tensor(ids, dtype=torch.float32)[None, :, None]
        return Prompt(len(ids), len(ids), [(tensor, tensor)])

    system = [1] * 3 * UNIT
    for other in range(2, 30):
        ids = [*system, *[other] * 2 * UNIT, 0]
        assert cache.begin(ids, None).read == (0 if other == 2 else 3 * UNIT)
        cache.keep(ids, None, kept(ids))
        assert len(cache.units) <= 10
        assert cache.begin(ids, None).layers[0][0].flatten().tolist()[: 5 * UNIT] == ids[: 5 * UNIT]
    assert cache.begin([*system, *[2] * 2 * UNIT, 0], None).read == 3 * UNIT
    long = [3, *[9] * 50 * UNIT]
    cache.keep(long, None, kept(long))
    assert cache.begin(long, None).read == 10 * UNIT
