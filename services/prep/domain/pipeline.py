"""The steps of a freeze, one after the other: records as columns in, what stays and what is left out and why."""

from dataclasses import dataclass

import numpy as np

from contracts import steps as kinds
from contracts.preparation import Prep
from services.prep.domain import (
    contamination,
    duplicates,
    languages,
    lengths,
    near_duplicates,
    patterns,
    quality,
    shares,
)
from services.prep.domain.frame import EXAMPLES, CountTokens, Frame, Outcome, Step
from services.prep.domain.near_duplicates import Sign

Wanted = kinds.Known | kinds.Language | kinds.Synthetic


class UnknownStep(ValueError):
    """A project's step is none that is known here: it was applied by a service of a later version."""


@dataclass(frozen=True, slots=True)
class Means:
    """What steps ask for that is not of the records: signatures of texts, the base's tokens, other datasets."""

    sign: Sign
    count: CountTokens
    sets: contamination.Sets


def against(prep: Prep) -> list[str]:
    """The other datasets that steps ask for."""
    rules = [wanted for _, wanted in steps(prep) if isinstance(wanted, kinds.Decontaminate)]
    return sorted({name for rule in rules for name in rule.against})


def freeze(frame: Frame, prep: Prep, means: Means) -> Outcome:
    """What of the records stays, the same whatever order they came in."""
    reason = np.full(len(frame), -1, np.int16)
    because_of = np.full(len(frame), -1, np.int64)
    reasons: list[str] = []
    train = frame.of("train")
    emptied_by = None
    for name, wanted in steps(prep):
        begin, before = len(reasons), bool((train & (reason < 0)).any())
        for dropped in made(wanted, means)(frame, reason < 0):
            reason[dropped.rows] = len(reasons)
            because_of[dropped.rows] = dropped.because_of
            reasons.append(dropped.reason)
        if before and not (train & (reason < 0)).any():
            emptied_by = name, np.flatnonzero(train & (reason >= begin))[:EXAMPLES]
    return Outcome(tuple(reasons), reason, because_of, emptied_by)


def steps(prep: Prep) -> list[tuple[str, Wanted]]:
    """The project's steps by name in their order: languages, what it lists or what its other keys say, the synthetic share.

    Raises:
        UnknownStep: nothing is frozen without a step that the project asks for.
    """
    listed = _usual(prep) if prep.steps is None else [_known(step) for step in prep.steps]
    first = [("language", prep.language)] if prep.language else []
    last = [("synthetic", prep.synthetic)] if prep.synthetic else []
    return [*first, *((wanted.step, wanted) for wanted in listed), *last]


def counts_tokens(prep: Prep) -> bool:
    """Whether a step asks for the base's tokens."""
    rules = [wanted for _, wanted in steps(prep) if isinstance(wanted, kinds.Length)]
    return any(lengths.columns(rule) for rule in rules)


def _known(step: kinds.Known | kinds.Other) -> kinds.Known:
    if isinstance(step, dict):
        told = f"prep.steps asks for {str(step['step'])[:40]!r}, which this version of prep does not know"
        raise UnknownStep(f"{told}; upgrade prep, and have the project frozen again")
    return step


def _usual(prep: Prep) -> list[kinds.Known]:
    found: list[kinds.Known] = [kinds.Length(step="length", min_chars=prep.min_chars, max_chars=prep.max_chars)]
    if prep.deduplicate == "exact":
        found.append(kinds.Duplicates(step="duplicates"))
    return [*found, kinds.NearDuplicates(step="near_duplicates")]


def made(wanted: Wanted, means: Means) -> Step:
    """The function of a step."""
    if isinstance(wanted, kinds.Language):
        return languages.step(wanted.keep, wanted.min_confidence)
    if isinstance(wanted, kinds.Synthetic):
        return shares.synthetic(wanted.tag, wanted.at_most)
    return _listed(wanted, means)


def _listed(wanted: kinds.Known, means: Means) -> Step:
    match wanted:
        case kinds.Length():
            return lengths.step(wanted, means.count)
        case kinds.Duplicates():
            return duplicates.step
        case kinds.NearDuplicates():
            return near_duplicates.step(means.sign, wanted.within_train)
        case kinds.Quality():
            return quality.step(wanted.rules)
        case kinds.Matching():
            return patterns.step(wanted.name, wanted.drop)
        case kinds.Decontaminate():
            return contamination.step(wanted.words, wanted.against, means.sets)
        case kinds.Cap():
            return shares.cap(wanted.by, wanted.most)
        case kinds.Mix():
            return shares.mix(wanted.by, wanted.weights)


def texts(prep: Prep) -> tuple[str, ...]:
    """The columns of text that the project's steps read."""
    found = {"words"}
    for _, wanted in steps(prep):
        match wanted:
            case kinds.Synthetic():
                found.add("tags")
            case kinds.NearDuplicates(within_train=True) | kinds.Decontaminate():
                found.add("all_words")
            case kinds.Quality():
                found.add("completion")
            case kinds.Length():
                found |= lengths.columns(wanted)
            case kinds.Language():
                found.add("language")
            case kinds.Matching():
                found.add("text")
            case kinds.Cap() | kinds.Mix():
                found.add("subject" if wanted.by == "subject" else "tags")
            case _:
                pass
    return tuple(sorted(found))
