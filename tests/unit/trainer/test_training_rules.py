"""The rules without tensors: packs, orders, schedules, bases, causes of failure."""

import errno
from collections import Counter
from collections.abc import Iterable
from pathlib import Path

import pytest

from contracts.project import Train
from services.lm import bases
from services.lm.errors import BaseInvalid, BaseNotFound
from services.lm.learning import Row
from services.trainer.domain import schedule
from services.trainer.domain.failures import DiskFull, OutOfMemory, classify
from services.trainer.domain.packing import Limits, common_prefix, split, step_rows


def row(ids: Iterable[int], start: int) -> Row:
    """A row that is learnt from `start` on."""
    known = tuple(ids)
    return Row(known, ((start, len(known)),))


def test_each_epoch_sees_each_row_once_in_another_order() -> None:
    first = [i for step in range(3) for i in step_rows(10, 4, 7, step)]
    second = [i for step in range(3, 6) for i in step_rows(10, 4, 7, step)]
    assert sorted(first) == sorted(second) == list(range(10))
    assert first != second
    assert first != [i for step in range(3) for i in step_rows(10, 4, 8, step)]


def test_packs_hold_each_row_once_within_the_limits() -> None:
    rows = [row(range(5 + i % 9), 2 + i % 3) for i in range(40)]
    packs = split(range(40), rows, 2, Limits(tokens=20, targets=12))
    assert Counter(i for pack in packs for i in pack) == Counter(range(40))
    for pack in packs:
        assert 2 + sum(len(rows[i].ids) - 2 for i in pack) <= 20
        assert sum(rows[i].targets for i in pack) <= 12


def test_a_row_longer_than_a_pack_stands_alone() -> None:
    rows = [row(range(50), 10), row((1, 2, 3), 1)]
    assert split([0, 1], rows, 0, Limits(tokens=20, targets=100)) == [[0], [1]]


def test_the_shared_prefix_leaves_each_row_a_prompt_token() -> None:
    assert common_prefix([row((1, 2, 3, 4, 9), 4), row((1, 2, 3, 4, 8), 4)]) == 3
    assert common_prefix([row((1, 2, 3), 2), row((1, 7, 3), 2)]) == 1
    assert common_prefix([row((1, 2, 3), 2), row((5, 2, 3), 2)]) == 0
    assert common_prefix([]) == 0


def test_schedule() -> None:
    recipe = Train(epochs=2, batch_size=4, learning_rate=1.0, warmup_ratio=0.25)
    assert schedule.total_steps(recipe, 9) == 6
    assert schedule.total_steps(Train(max_steps=5), 9) == 5
    rates = [schedule.learning_rate(recipe, step, 8) for step in range(8)]
    assert rates[:3] == pytest.approx([1 / 3, 2 / 3, 1.0])
    assert rates[7] == pytest.approx(1 / 6)
    cosine = recipe.model_copy(update={"lr_scheduler": "cosine"})
    assert schedule.learning_rate(cosine, 5, 8) == pytest.approx(0.5)
    constant = recipe.model_copy(update={"lr_scheduler": "constant"})
    assert schedule.learning_rate(constant, 7, 8) == 1.0


def test_bases_are_found_or_refused_with_reasons(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    kept = tmp_path / "bases" / "mine"
    kept.mkdir(parents=True)
    with pytest.raises(BaseInvalid, match=r"no config\.json"):
        bases.resolve("mine", tmp_path)
    (kept / "config.json").touch()
    (kept / "pytorch_model.bin").touch()
    with pytest.raises(BaseInvalid, match="pickled weights"):
        bases.resolve("mine", tmp_path)
    (kept / "model.safetensors").touch()
    assert bases.resolve("mine", tmp_path) == kept
    assert bases.resolve(str(kept), tmp_path) == kept
    assert set(bases.model_files(kept)) == {"config.json", "model.safetensors"}
    with pytest.raises(BaseNotFound, match="scripts/setup"):
        bases.resolve("smollm2-135m-instruct", tmp_path)
    with pytest.raises(BaseNotFound, match="tried the catalogue"):
        bases.resolve("nothing-such", tmp_path)
    monkeypatch.setattr("huggingface_hub.constants.HF_HUB_OFFLINE", True)
    with pytest.raises(BaseNotFound, match="the hub"):
        bases.resolve("nobody/nothing", tmp_path)


def test_causes_are_told_apart() -> None:
    assert isinstance(classify(OSError(errno.ENOSPC, "No space left on device")), DiskFull)
    assert isinstance(classify(MemoryError()), OutOfMemory)
    torch_says = (
        "[enforce fail at alloc_cpu.cpp:127] DefaultCPUAllocator: not enough memory: you tried to allocate 8 bytes"
    )
    assert classify(RuntimeError(torch_says)).code == "out_of_memory"
    assert classify(ValueError("else")).code == "internal"
    assert classify(BaseNotFound("nowhere")).code == "base_not_found"
    assert classify(BaseInvalid("no config")).code == "base_invalid"
