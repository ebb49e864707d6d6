"""The split a record belongs to: a function of its normalised prompt, so that it never changes.

Held-out is the lower end of the unit interval and validation the upper one: a larger part of one takes from train only,
and there only prompts that no earlier dataset had in train, since the champion was taught those.
"""

from collections.abc import Container
from typing import Any

import numpy as np
import numpy.typing as npt

from contracts.canonical import digest
from contracts.preparation import Prep
from services.prep.domain.rows import SPLITS, Split

TRAIN, VALIDATION, HELD_OUT = (SPLITS.index(split) for split in ("train", "validation", "held_out"))


def prompt_key(words: str) -> str:
    """SHA-256 of a normalised prompt: its words with a space between each."""
    return digest(words)


def grew(now: Prep, then: Prep | None) -> bool:
    """Whether prompts that were in train under `then` may fall to another split now; None: not known, so they may."""
    return then is None or then.held_out < now.held_out or then.validation < now.validation


def split_of(key: str, prep: Prep, trained: Container[str] = ()) -> Split:
    """The split of a prompt key: the key's first 64 bits as a number from 0 to 1 against the splits' shares.

    `trained` are the keys that an earlier dataset with smaller shares had in train: they stay there.
    """
    if key in trained:
        return "train"
    place = int(key[:16], 16) / 2**64
    if place < prep.held_out:
        return "held_out"
    return "validation" if place >= 1 - prep.validation else "train"


def splits_of(
    keys: npt.NDArray[np.uint64], held_out: float, validation: float, trained: npt.NDArray[np.uint64]
) -> npt.NDArray[np.int8]:
    """The same for the first 64 bits of many keys, as places in SPLITS; of `trained` the first 64 bits too."""
    places: Any = keys.astype(np.float64) / 2**64
    found = np.where(places < held_out, HELD_OUT, np.where(places >= 1 - validation, VALIDATION, TRAIN))
    found[np.isin(keys, trained)] = TRAIN
    return found.astype(np.int8)
