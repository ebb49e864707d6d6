"""A model's answer sheet: what it answered on each example, under which settings, and the figures that follow.

A sheet is kept by (model, settings), so that a champion or base is not asked again what it answered before. Knows no tensor.
"""

import hashlib
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass

from contracts.types import Metric
from services.evaluator.domain.bootstrap import difference, metric
from services.evaluator.domain.metrics import HIGHER_IS_BETTER, ON_ANSWERS

FORM = "2"
"""Raised when rendering, generation or loss changes its result, so that old sheets are not taken for new ones."""


@dataclass(frozen=True, slots=True)
class Example:
    """A row of the split: the messages before the completion, and the completion. No messages: plain text."""

    record_id: str
    messages: tuple[Mapping[str, str], ...]
    reference: str

    @property
    def key(self) -> str:
        """SHA-256 (hex) of what the model is shown and should answer."""
        parts = [f"{m['role']}\x1f{m['content']}" for m in self.messages]
        return hashlib.sha256("\x1e".join([*parts, self.reference]).encode()).hexdigest()


@dataclass(frozen=True, slots=True)
class Entry:
    """What a model made of one example: its answer (None for plain text), the mean loss a completion token (None: not asked)."""

    answer: str | None
    loss: float | None


BatchResult = dict[str, Entry]
"""Entries by Example.key."""

GatewayMetrics = dict[str, list[float | None]]
"""A metric's values in the order of the examples; None where it has no meaning (an answer to plain text)."""


def settings_key(max_tokens: int, dtype: str, device: str) -> str:
    """What an answer depends on beside model and prompt, as readable text."""
    return f"form={FORM} greedy max_tokens={max_tokens} {dtype} {device}"


def missing(examples: Sequence[Example], sheet: BatchResult, suite: Sequence[str]) -> list[int]:
    """Indices of the examples that the sheet does not answer, or not fully."""
    loss, answers = "loss" in suite, any(name in ON_ANSWERS for name in suite)

    def lacks(example: Example) -> bool:
        entry = sheet.get(example.key)
        if entry is None or (loss and entry.loss is None):
            return True
        return answers and bool(example.messages) and entry.answer is None

    return [i for i, example in enumerate(examples) if lacks(example)]


def figures(examples: Sequence[Example], sheet: BatchResult, suite: Sequence[str]) -> GatewayMetrics:
    """Each metric of the suite for each example."""
    entries = [sheet[example.key] for example in examples]
    result: GatewayMetrics = {}
    for name in suite:
        if name == "loss":
            result[name] = [entry.loss for entry in entries]
            continue
        of: Callable[[str, str], float] = ON_ANSWERS[name]
        pairs = zip(entries, examples, strict=True)
        result[name] = [None if e.answer is None else of(e.answer, x.reference) for e, x in pairs]
    return result


def metrics(values: GatewayMetrics) -> dict[str, Metric]:
    """The suite's figures with their intervals; a metric without any value is left out."""
    known = {name: [v for v in column if v is not None] for name, column in values.items()}
    return {name: metric(v, higher_is_better=HIGHER_IS_BETTER[name]) for name, v in known.items() if v}


def differences(candidate: GatewayMetrics, champion: GatewayMetrics) -> dict[str, Metric]:
    """Candidate minus champion, paired by example."""
    result: dict[str, Metric] = {}
    for name, column in candidate.items():
        pairs = [(a, b) for a, b in zip(column, champion[name], strict=True) if a is not None and b is not None]
        if pairs:
            left, right = zip(*pairs, strict=True)
            result[name] = difference(left, right, higher_is_better=HIGHER_IS_BETTER[name])
    return result
