"""The rules without tensors: packs, orders, schedules, bases, causes of failure."""

from collections import Counter
from collections.abc import Iterable
from pathlib import Path
from types import SimpleNamespace
from typing import Any

import httpx2
import pytest
from huggingface_hub.errors import (
    HfHubHTTPError,
    HFValidationError,
    LocalEntryNotFoundError,
    RepositoryNotFoundError,
)
from hypothesis import given
from hypothesis import strategies as st

from contracts.project import Train
from services.chassis.jobs.failures import classify
from services.lm import bases
from services.lm.errors import BaseInvalid, BaseNotFound, HubUnavailable
from services.lm.learning import Row
from services.trainer.domain import schedule
from services.trainer.domain.failures import of_base
from services.trainer.domain.packing import Limits, common_prefix, deal, split, step_rows
from services.trainer.domain.units import learn


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
    packs = split(range(40), [learn(row) for row in rows], 2, Limits(tokens=20, targets=12))
    assert Counter(i for pack in packs for i in pack) == Counter(range(40))
    for pack in packs:
        assert 2 + sum(len(rows[i].ids) - 2 for i in pack) <= 20
        assert sum(rows[i].targets for i in pack) <= 12


@given(lengths=st.lists(st.integers(2, 60), min_size=1, max_size=20), shares=st.integers(1, 8))
def test_rows_are_dealt_evenly(lengths: list[int], shares: int) -> None:
    rows = [row(range(length), 1) for length in lengths]
    dealt = deal(range(len(rows)), [learn(row) for row in rows], shares)
    assert sorted(i for share in dealt for i in share) == list(range(len(rows)))
    assert len(dealt) == min(shares, len(rows))
    held = [sum(lengths[i] for i in share) for share in dealt]
    assert max(held) - min(held) <= max(lengths)


def test_a_row_longer_than_a_pack_stands_alone() -> None:
    rows = [row(range(50), 10), row((1, 2, 3), 1)]
    assert split([0, 1], [learn(row) for row in rows], 0, Limits(tokens=20, targets=100)) == [[0], [1]]


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


def answer(status: int) -> Any:
    """A hub's answer, as far as its client's errors look at it."""
    return SimpleNamespace(status_code=status, headers={}, request=None)


@pytest.mark.parametrize(
    ("error", "away"),
    [
        (LocalEntryNotFoundError("no connection, and no copy here"), True),
        (HfHubHTTPError("bad gateway", response=answer(502)), True),
        (HfHubHTTPError("slow down", response=answer(429)), True),
        (httpx2.ReadTimeout("silent within a file"), True),
        (RuntimeError("Data processing error: CAS service error: error sending request"), True),
        (RepositoryNotFoundError("none", response=answer(404)), False),
        (RepositoryNotFoundError("not for you", response=answer(401)), False),
        (HFValidationError("a name that no repository can have"), False),
    ],
)
def test_a_hub_that_is_away_is_told_from_a_base_that_is_not_there(
    error: Exception, away: bool, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    def fails(*_: object, **__: object) -> None:
        raise error

    monkeypatch.setattr("huggingface_hub.snapshot_download", fails)
    monkeypatch.setattr("huggingface_hub.constants.HF_HUB_OFFLINE", False)
    with pytest.raises(HubUnavailable if away else BaseNotFound) as caught:
        bases.resolve("nobody/nothing", tmp_path)
    assert of_base(caught.value).code == ("hub_unavailable" if away else "base_not_found")
    assert classify(of_base(caught.value)).passes == away
