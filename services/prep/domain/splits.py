"""The split a record belongs to: a function of its prompt, or of what the project divides by, so that it never changes.

Held-out is the lower end of the unit interval and validation the upper one: a larger part of one takes from train only,
and there only what no earlier dataset had in train, since the champion was taught that. Strata and time look at all records, so
that a side of one may change with others; what was in train stays there too.
"""

import json
from collections.abc import Container, Mapping
from typing import Any

import numpy as np
import numpy.typing as npt
import pyarrow as pa

from contracts.canonical import digest
from contracts.preparation import Prep
from services.prep.domain.arrow import Batch, Column, compute
from services.prep.domain.rows import SPLITS, Split

TRAIN, VALIDATION, HELD_OUT = (SPLITS.index(split) for split in ("train", "validation", "held_out"))
Keys = npt.NDArray[np.uint64]
Sides = npt.NDArray[np.int8]
"""Places in SPLITS."""
CONVERSATION = "tag:conversation"
"""Where traces put it."""


def prompt_key(words: str) -> str:
    """SHA-256 of a normalised prompt: its words with a space between each."""
    return digest(words)


def grew(now: Prep, then: Prep | None) -> bool:
    """Whether what was in train under `then` may fall to another split now; None: not known, so it may."""
    if then is None or is_ranked(now) or then.split != now.split:
        return True
    return then.held_out < now.held_out or then.validation < now.validation


def is_ranked(prep: Prep) -> bool:
    """Whether a record's side depends on the others."""
    return prep.split.by == "time" or prep.split.stratify is not None


def split_of(key: str, prep: Prep, trained: Container[str] = ()) -> Split:
    """The split of a key: its first 64 bits as a number from 0 to 1 against the splits' shares.

    `trained` are the keys that an earlier dataset had in train and that might fall to another split: they stay there.
    """
    if key in trained:
        return "train"
    place = int(key[:16], 16) / 2**64
    if place < prep.held_out:
        return "held_out"
    return "validation" if place >= 1 - prep.validation else "train"


def group_key(by: str, prompt: str, subject: str | None, tags: dict[str, str]) -> str:
    """What a record is divided by, as a digest; `prompt` is its prompt key."""
    value = subject if by == "subject" else tags.get(tag[4:]) if (tag := _tag(by)) else None
    return digest(f"{by} {value}") if value else prompt


def group_keys(by: str, prompts: Keys, subjects: Column, tags: Column) -> Keys:
    """The first 64 bits of the same for many records; of `prompts` the first 64 bits too. `tags` are JSON texts."""
    if by in ("prompt", "time"):
        return prompts
    different = values(by, subjects, tags)
    keys = np.array(
        [int(digest(f"{by} {v}")[:16], 16) if v else 0 for v in different.dictionary.to_pylist()], np.uint64
    )
    found = keys[np.asarray(different.indices)] if len(keys) else prompts
    return np.where(found == 0, prompts, found)


def values(by: str, subjects: Column, tags: Column) -> Any:
    """The value of a tag or the subject of each record as a dictionary array; '' for none."""
    if by == "subject":
        return compute.dictionary_encode(compute.fill_null(subjects, ""))
    name = (_tag(by) or by)[4:]
    encoded = compute.dictionary_encode(tags)
    found = [json.loads(text).get(name, "") for text in encoded.dictionary.to_pylist()]
    return compute.dictionary_encode(pa.array(found, pa.string()).take(encoded.indices))


def basis(batch: Batch, prep: Prep) -> dict[str, Any]:
    """What the sides of a batch of records hang on beside their prompts: `group`, `stratum`, `time`, as the project asks."""
    by, stratify = prep.split.by, prep.split.stratify
    subjects, tags = (compute.cast(batch.column(name), pa.string()) for name in ("subject", "tags"))
    found: dict[str, Any] = {}
    if by == "time":
        found["time"] = np.asarray(compute.fill_null(batch.column("accepted_at").cast(pa.int64()), 0))
    elif by != "prompt":
        found["group"] = group_keys(by, np.asarray(batch.column("prompt_0")), subjects, tags)
    if stratify:
        found["stratum"] = np.array(values(stratify, subjects, tags).cast(pa.string()).to_pylist(), object)
    return found


def sides(prompts: Keys, found: Mapping[str, Any], prep: Prep, trained: Keys) -> Sides:
    """The side of each record, in the order of record_id: by its prompt and `basis`.

    `trained` are keys of what earlier datasets had in train and today might be elsewhere: it stays there.
    """
    keys, times = found.get("group", prompts), found.get("time")
    if not is_ranked(prep):
        return splits_of(keys, prep.held_out, prep.validation, trained)
    rows = np.arange(len(keys))
    groups = keys if times is None else rows.astype(np.uint64)  # by time each record is for itself
    first, group, count = np.unique(groups, return_index=True, return_inverse=True, return_counts=True)[1:]
    strata = found["stratum"].astype(str) if "stratum" in found else np.zeros(len(keys), np.int64)
    stratum = np.unique(strata[first], return_inverse=True)[1]
    rank = keys[first] if times is None else -times[first]
    known = np.isin(keys[first], trained)
    return _ranked(rank, stratum, count, known, prep)[group]


def _ranked(rank: Any, stratum: Any, count: Any, trained: Any, prep: Prep) -> Sides:
    """Of groups of `count` records: the first by rank of each stratum are held out, the next ones are for validation."""
    total = np.bincount(stratum, count) if len(stratum) else np.empty(0)
    order = np.lexsort((rank, stratum))
    free = np.where(trained, 0, count)[order]
    before = np.cumsum(free) - free
    begin = np.searchsorted(stratum[order], stratum[order])
    middle = before - before[begin] + free / 2  # so that the nearest to the share is taken
    whole = total[stratum[order]]
    found = np.full(len(order), TRAIN, np.int8)
    found[middle <= (prep.held_out + prep.validation) * whole] = VALIDATION
    found[middle <= prep.held_out * whole] = HELD_OUT
    found[trained[order]] = TRAIN
    result = np.empty(len(order), np.int8)
    result[order] = found
    return result


def splits_of(keys: Keys, held_out: float, validation: float, trained: Keys) -> Sides:
    """`split_of` for the first 64 bits of many keys; of `trained` the first 64 bits too."""
    places: Any = keys.astype(np.float64) / 2**64
    found = np.where(places < held_out, HELD_OUT, np.where(places >= 1 - validation, VALIDATION, TRAIN))
    found[np.isin(keys, trained)] = TRAIN
    return found.astype(np.int8)


def _tag(by: str) -> str | None:
    return CONVERSATION if by == "conversation" else by if by.startswith("tag:") else None
