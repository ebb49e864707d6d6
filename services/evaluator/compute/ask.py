"""Asks models for the predictions that are missing, loading each base once. Knows no metric, no SQL and no Kafka."""

from collections.abc import Callable, Iterable, Sequence
from contextlib import nullcontext
from dataclasses import dataclass
from itertools import groupby
from pathlib import Path

import torch

from contracts.types import Files
from services.evaluator.compute import shared
from services.evaluator.compute.generate import generate, step_of
from services.evaluator.compute.loss import losses
from services.evaluator.compute.model import Loaded, adapted, load
from services.evaluator.compute.rows import Encoded, encode
from services.evaluator.domain.predictions import Example, Prediction, Predictions
from services.evaluator.domain.task import Subject
from services.lm.device import set_quickest_threads
from services.lm.scoring.metrics import ON_ANSWERS

Place = Callable[[Files], Path]
"""Puts the files of a model into a directory."""


@dataclass(frozen=True, slots=True)
class Wanted:
    """Examples that a model has to be asked, under a role's name for the progress."""

    role: str
    subject: Subject
    examples: Sequence[Example]


@dataclass(frozen=True, slots=True)
class GenerationSettings:
    """How models are asked: the suite, the longest answer, where they compute, who hears of progress `(role, n)`."""

    suite: Sequence[str]
    max_tokens: int
    device: str
    dtype: torch.dtype
    done: Callable[[str, int], None]

    @property
    def generates(self) -> bool:
        """Whether any metric needs an answer."""
        return any(name in ON_ANSWERS for name in self.suite)


def predict_all(
    wanted: Iterable[Wanted], settings: GenerationSettings, place: Place, keep: Callable[[Subject, Predictions], None]
) -> int:
    """Ask every model; `keep` takes each one's new predictions as soon as they are there. Returns the threads used.

    Raises:
        ModelInvalid: a model cannot be loaded.
    """
    threads = 0
    for (_, full), group in groupby(sorted(wanted, key=_order), key=lambda w: (w.subject.base.digest, _full(w))):
        for several in [[one] for one in group] if full else [list(group)]:
            threads = _predict_group(several, settings, place, keep)
    return threads


def _full(wanted: Wanted) -> bool:
    return wanted.subject.kind == "full"


def _order(wanted: Wanted) -> tuple[str, bool, bool]:
    return wanted.subject.base.digest, _full(wanted), wanted.subject.kind != "base"


def _predict_group(
    group: list[Wanted], settings: GenerationSettings, place: Place, keep: Callable[[Subject, Predictions], None]
) -> int:
    """Models that share one base in memory: the bare base first, then each adapter on it; or one full model."""
    first = group[0].subject
    files = first.files if first.kind == "full" else first.base.files
    base = load(place(files), settings.device, settings.dtype)
    threads = set_quickest_threads(step_of(base, min(8, len(group[0].examples))))
    for one in group:
        on = adapted(base, place(one.subject.files)) if one.subject.kind == "lora" else nullcontext(base)
        with on as loaded:
            keep(one.subject, _predict(loaded, one, settings))
    return threads


def _predict(loaded: Loaded, wanted: Wanted, settings: GenerationSettings) -> Predictions:
    rows = [encode(x, loaded.text, loaded.context, settings.max_tokens) for x in wanted.examples]

    def done(count: int) -> None:
        settings.done(wanted.role, count)

    way = shared.predict if loaded.shares_prompts else separately
    losses, tokens = way(
        loaded, rows, settings.max_tokens, done, loss="loss" in settings.suite, answer=settings.generates
    )
    answers = [
        None if ids is None else loaded.text.answer_text(row.prompt, ids) for row, ids in zip(rows, tokens, strict=True)
    ]
    found = zip(wanted.examples, answers, losses, rows, strict=True)
    return {x.key: Prediction(answer, loss, len(row.ids) - row.start) for x, answer, loss, row in found}


def separately(
    loaded: Loaded, rows: Sequence[Encoded], max_tokens: int, done: Callable[[int], None], *, loss: bool, answer: bool
) -> tuple[list[float | None], list[list[int] | None]]:
    """What `shared.predict` gives, for any model: each row is read for its loss and its prompt again for its answer."""
    found: list[float | None] = [*losses(loaded, rows, done)] if loss else [None] * len(rows)
    answers: list[list[int] | None] = [None] * len(rows)
    if answer:
        asked = [i for i, row in enumerate(rows) if row.prompt]
        for index, ids in zip(asked, generate(loaded, [rows[i].prompt for i in asked], max_tokens, done), strict=True):
            answers[index] = ids
    return found, answers
