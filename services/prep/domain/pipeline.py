"""The steps of a freeze, one after the other: records as columns in, what stays and what is left out and why."""

from collections.abc import Callable, Mapping
from dataclasses import dataclass
from typing import Any, NamedTuple

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
    pii,
    quality,
    shares,
    toxicity,
)
from services.prep.domain.frame import EXAMPLES, CountTokens, Frame, Outcome, Step
from services.prep.domain.near_duplicates import Sign


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
    rules = [wanted for wanted in steps(prep) if isinstance(wanted, kinds.Decontaminate)]
    return sorted({name for rule in rules for name in rule.against})


def freeze(frame: Frame, prep: Prep, means: Means) -> Outcome:
    """What of the records stays, the same whatever order they came in."""
    reason = np.full(len(frame), -1, np.int16)
    because_of = np.full(len(frame), -1, np.int64)
    reasons: list[str] = []
    train = frame.of("train")
    emptied_by = None
    for wanted in steps(prep):
        begin, before = len(reasons), bool((train & (reason < 0)).any())
        for dropped in made(wanted, means)(frame, reason < 0):
            reason[dropped.rows] = len(reasons)
            because_of[dropped.rows] = dropped.because_of
            reasons.append(dropped.reason)
        if before and not (train & (reason < 0)).any():
            emptied_by = wanted.step, np.flatnonzero(train & (reason >= begin))[:EXAMPLES]
    return Outcome(tuple(reasons), reason, because_of, emptied_by)


def steps(prep: Prep) -> list[kinds.Known]:
    """The project's steps in their order: languages, what it lists or what its other keys say, the synthetic share.

    Raises:
        UnknownStep: nothing is frozen without a step that the project asks for.
    """
    listed = _usual(prep) if prep.steps is None else [_known(step) for step in prep.steps]
    first = [kinds.LanguageStep(step="language", **dict(prep.language))] if prep.language else []
    last = [kinds.SyntheticStep(step="synthetic", **dict(prep.synthetic))] if prep.synthetic else []
    return [*first, *listed, *last]


def counts_tokens(prep: Prep) -> bool:
    """Whether a step asks for the base's tokens."""
    rules = [wanted for wanted in steps(prep) if isinstance(wanted, kinds.Length)]
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


def asks(prep: Prep, kind: type[kinds.Known]) -> bool:
    """Whether a step of this kind is among the project's."""
    return any(isinstance(wanted, kind) for wanted in steps(prep))


def made(wanted: kinds.Known, means: Means) -> Step:
    """The function of a step."""
    return KINDS[type(wanted)].made(wanted, means)


def texts(prep: Prep) -> tuple[str, ...]:
    """The columns of text that the project's steps read."""
    return tuple(sorted({"words"}.union(*(KINDS[type(wanted)].reads(wanted) for wanted in steps(prep)))))


class Kind(NamedTuple):
    """Of a kind of step the function that it is, and the columns of text that it reads."""

    made: Callable[[Any, Means], Step]
    reads: Callable[[Any], set[str]]


def _by(wanted: kinds.Cap | kinds.Mix) -> set[str]:
    return {"subject" if wanted.by == "subject" else "tags"}


KINDS: Mapping[type[kinds.Known], Kind] = {
    kinds.Length: Kind(lambda rule, means: lengths.step(rule, means.count), lengths.columns),
    kinds.Duplicates: Kind(lambda rule, means: duplicates.step, lambda rule: set()),
    kinds.NearDuplicates: Kind(
        lambda rule, means: near_duplicates.step(means.sign, rule.within_train),
        lambda rule: {"all_words"} if rule.within_train else set(),
    ),
    kinds.Quality: Kind(lambda rule, means: quality.step(rule.rules), lambda rule: {"completion"}),
    kinds.Matching: Kind(lambda rule, means: patterns.step(rule.name, rule.drop), lambda rule: {"text"}),
    kinds.LanguageStep: Kind(
        lambda rule, means: languages.step(rule.keep, rule.min_confidence), lambda rule: {"language"}
    ),
    kinds.Pii: Kind(lambda rule, means: pii.step(rule.kinds), lambda rule: {"pii"}),
    kinds.Toxicity: Kind(lambda rule, means: toxicity.step(rule.above), lambda rule: {"toxicity"}),
    kinds.Decontaminate: Kind(
        lambda rule, means: contamination.step(rule.words, rule.against, means.sets), lambda rule: {"all_words"}
    ),
    kinds.Cap: Kind(lambda rule, means: shares.cap(rule.by, rule.most), _by),
    kinds.Mix: Kind(lambda rule, means: shares.mix(rule.by, rule.weights), _by),
    kinds.SyntheticStep: Kind(lambda rule, means: shares.synthetic(rule.tag, rule.at_most), lambda rule: {"tags"}),
}
