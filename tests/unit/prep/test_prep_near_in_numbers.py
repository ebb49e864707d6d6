"""Recall and precision of the search for near prompts on 20,000 of them, against all pairs of them, in several vocabularies."""

import random
from collections.abc import Callable
from typing import Any

import numpy as np
import pyarrow as pa
import pytest
from scipy import sparse

from services.prep import engine
from services.prep.domain import near_duplicates
from services.prep.domain.frame import Frame, Texts
from services.prep.domain.normalise import words as words_of
from services.prep.domain.rows import SPLITS
from tests.unit.prep.near import are_near, own
from tests.unit.prep.test_prep_near import VOCABULARY, common, schema, uniform, with_near_ones, zipf

COUNT = 20_000
FREQUENT = 500
"""Words of so many prompts are counted as columns of a dense matrix, others as those of a sparse one."""


def on_schemas(dice: random.Random) -> list[str]:
    """A question on one of forty schemas of 60 words."""
    return [*schema(dice.randrange(40)).split(" ")[:60], *dice.choices(VOCABULARY, k=dice.randint(8, 16))]


def skewed(dice: random.Random) -> list[str]:
    """Ten words that stand in every prompt, and four of its own: similarities crowd below the bound."""
    return [*VOCABULARY[:10], *dice.choices(VOCABULARY[10:200], k=4)]


def all_near(prompts: list[str]) -> dict[int, set[int]]:
    """Of each prompt those that are near to it, by the similarity of the own words of every pair, and then of all words."""
    own_words = own({str(i): prompt for i, prompt in enumerate(prompts)})
    sets, full = [own_words[str(i)] for i in range(len(prompts))], [frozenset(prompt.split(" ")) for prompt in prompts]
    place = {word: i for i, word in enumerate(sorted(frozenset().union(*sets)))}
    at = np.array([(i, place[word]) for i, some in enumerate(sets) for word in some])
    sizes = np.array([len(some) for some in sets], np.float32)
    often = np.bincount(at[:, 1], minlength=len(place)) > FREQUENT
    dense = np.zeros((len(sets), int(often.sum())), np.float32)
    common = often[at[:, 1]]
    dense[at[common, 0], (np.cumsum(often) - 1)[at[common, 1]]] = 1
    rest = at[~common]
    shape = (len(sets), len(place))
    rare: Any = sparse.csr_matrix((np.ones(len(rest), np.float32), (rest[:, 0], rest[:, 1])), shape=shape)
    other = rare.T.tocsc()
    found: dict[int, set[int]] = {}
    for begin in range(0, len(sets), 1000):
        some = slice(begin, begin + 1000)
        shared = dense[some] @ dense.T + (rare[some] @ other).toarray()
        shared *= 9  # 5 * shared >= 4 * (size + size - shared), in one matrix
        shared -= 4 * sizes
        for i, b in np.argwhere(shared >= 4 * sizes[some, None] - 1e-3).tolist():
            if begin + i < b and are_near(sets[begin + i], sets[b]) and are_near(full[begin + i], full[b]):
                found.setdefault(begin + i, set()).add(b)
                found.setdefault(b, set()).add(begin + i)
    return found


def frame_of(prompts: list[str], split: Any) -> Frame:
    texts = pa.array(prompts)
    keys = np.random.default_rng(1).integers(0, 2**64, len(prompts), np.uint64)
    names = ("prompt_0", "prompt_1", "content_0", "content_1")
    sizes = np.array([len(prompt) for prompt in prompts])

    def read(_: str) -> Texts:
        yield np.arange(len(prompts)), texts

    return Frame(texts, split, {**dict.fromkeys(names, keys), "characters": sizes}, read)


@pytest.mark.parametrize("make", [zipf, uniform, common, on_schemas, skewed])
def test_recall_and_precision_on_20_000_prompts(make: Callable[[random.Random], list[str]]) -> None:
    engine.start(None)
    made = with_near_ones(make, COUNT + COUNT // 5)
    prompts = list(dict.fromkeys(" ".join(words_of(prompt)) for prompt in made))[:COUNT]
    near = all_near(prompts)
    split = np.where(np.random.default_rng(2).random(len(prompts)) < 0.3, SPLITS.index("held_out"), 0).astype(np.int8)
    frame = frame_of(prompts, split)
    everything = np.ones(len(prompts), np.bool_)
    across = pairs(near_duplicates.step(engine.minhash)(frame, everything))
    wanted = {i for i, others in near.items() if split[i] == 0 and any(split[j] for j in others)}
    told = figures("across", across, wanted, near)
    within = pairs(near_duplicates.step(engine.minhash, True)(frame_of(prompts, np.zeros_like(split)), everything))
    left = {i for i, others in near.items() if i not in within and any(j < i and j not in within for j in others)}
    told |= figures("within", within, within.keys() | left, near)
    print(make.__name__, len(prompts), told)
    assert all(told[f"recall {where}"] >= 0.98 for where in ("across", "within")), told
    assert all(told[f"precision {where}"] >= 0.999 for where in ("across", "within")), told
    assert min(told["pairs across"], told["pairs within"]) > 100, told


def pairs(dropped: Any) -> dict[int, int]:
    """What was left out, and the prompt that each is said to be near to."""
    return {
        row: other
        for found in dropped
        for row, other in zip(found.rows.tolist(), found.because_of.tolist(), strict=True)
    }


def figures(where: str, found: dict[int, int], wanted: set[int], near: dict[int, set[int]]) -> dict[str, float]:
    right = sum(other in near.get(row, ()) for row, other in found.items())
    recall = len(wanted & found.keys()) / max(1, len(wanted))
    return {f"pairs {where}": len(found), f"recall {where}": recall, f"precision {where}": right / max(1, len(found))}
