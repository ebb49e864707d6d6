"""What a model predicted for each example of a split, and the figures that follow.

Predictions are kept by (model, settings) and found again by example, so that a champion or base is not asked again what it
answered before. An example's key holds the prompt as well, so a changed prompt is asked anew. Knows no tensor.
"""

import hashlib
import json
from collections.abc import Callable, Mapping, Sequence
from dataclasses import asdict, dataclass, field
from typing import Any, NamedTuple

from contracts.gate import Rule
from contracts.types import SKETCH, HeldOutRows, Metric, PairedTest
from services.lm.scoring import intervals
from services.lm.scoring.intervals import Interval
from services.lm.scoring.metrics import KINDS, ON_ANSWERS
from services.lm.scoring.paired import sign_flip

VERSION = "4"
"""Raised when rendering, generation or loss changes its result, so that old predictions are not taken for new ones."""


@dataclass(frozen=True, slots=True)
class Example:
    """A row of the split under a prompt: the messages before the completion, and the completion. No messages: plain text.

    `tools` and `variables`, of the chat template, are JSON texts; so is `calls`, the assistant's turn where it calls tools, whose
    `reference` is then what the base's template writes for it. `tags` are the record's; the model is not shown them.
    """

    record_id: str
    messages: tuple[Mapping[str, Any], ...]
    reference: str
    tools: str | None = None
    variables: str | None = None
    calls: str | None = None
    tags: Mapping[str, str] = field(default_factory=dict[str, str])

    @property
    def prompt(self) -> str:
        """All turns that the model is shown, as 'role: content' lines; empty of plain text."""
        return "\n".join(f"{turn['role']}: {turn['content']}" for turn in self.messages)

    @property
    def question(self) -> str | None:
        """What was asked, without the system prompt: one turn as it is, several as 'role: content' lines; None of plain text."""
        turns = [turn for turn in self.messages if turn["role"] != "system"]
        if len(turns) == 1:
            return str(turns[0]["content"])
        return "\n".join(f"{turn['role']}: {turn['content']}" for turn in turns) if self.messages else None

    @property
    def key(self) -> str:
        """SHA-256 (hex) of what the model is shown, system prompt included, and of what it should answer."""
        shown = [dict(message) for message in self.messages]
        further = [self.tools, self.variables, self.calls] if self.tools or self.variables or self.calls else []
        return hashlib.sha256(json.dumps([shown, self.reference, *further], sort_keys=True).encode()).hexdigest()


@dataclass(frozen=True, slots=True)
class Prediction:
    """What a model made of one example.

    `answer` is None for plain text and where none was asked for; `loss` is the mean negative log-likelihood of the completion's
    `tokens` tokens, end token included, in nats, and None where it was not asked for.
    """

    answer: str | None
    loss: float | None
    tokens: int = 0


Predictions = dict[str, Prediction]
"""By Example.key."""


@dataclass(frozen=True, slots=True)
class Scores:
    """A subject's figures in the order of the examples.

    `values` by metric: None where it has no meaning (an answer to plain text). `tokens`: what each loss is the mean of.
    """

    values: dict[str, list[float | None]]
    tokens: list[int]


def settings_key(max_tokens: int, dtype: str, device: str) -> str:
    """What a prediction depends on beside model and prompt, as readable text.

    Answers are greedy whatever `serve.temperature` is. The tokens that end them come from the model's files, as in serving.
    """
    return f"version={VERSION} greedy max_tokens={max_tokens} {dtype} {device}"


def missing(examples: Sequence[Example], known: Predictions, suite: Sequence[str]) -> list[int]:
    """Indices of the examples that have no prediction, or not all of it."""
    loss, answers = "loss" in suite, any(name in ON_ANSWERS for name in suite)

    def lacks(example: Example) -> bool:
        found = known.get(example.key)
        if found is None or (loss and found.loss is None):
            return True
        return answers and bool(example.messages) and found.answer is None

    return [i for i, example in enumerate(examples) if lacks(example)]


def kept(known: Predictions, asked: Sequence[Example], limit: int) -> Predictions:
    """What is worth keeping of a model: the predictions of the examples asked for now, and of others the last `limit`.

    A base is asked about the examples of every dataset of every project, so that all of them would grow for ever.
    """
    now = {example.key for example in asked}
    others = [key for key in known if key not in now][-limit:]
    return {key: known[key] for key in [*others, *(key for key in known if key in now)]}


def scores(examples: Sequence[Example], known: Predictions, suite: Sequence[str]) -> Scores:
    """Each metric of the suite for each example."""
    found = [known[example.key] for example in examples]
    values: dict[str, list[float | None]] = {}
    for name in suite:
        if name == "loss":
            values[name] = [prediction.loss for prediction in found]
            continue
        of: Callable[[str, str], float] = ON_ANSWERS[name]
        asked = zip(found, examples, strict=True)
        values[name] = [None if p.answer is None else of(p.answer, x.reference) for p, x in asked]
    return Scores(values, [prediction.tokens for prediction in found])


def metrics(found: Scores) -> dict[str, Metric]:
    """The suite's figures with their intervals; a metric without any value is left out.

    The loss is the mean over all tokens, as the trainer's validation loss is: an example counts by its tokens. All other
    metrics are means over examples; intervals of shares are Wilson's, the others bootstrapped.
    """
    result: dict[str, Metric] = {}
    for name, column in found.values.items():
        given = [(v, w) for v, w in zip(column, found.tokens, strict=True) if v is not None]
        if given:
            values, tokens = [v for v, _ in given], [w for _, w in given]
            result[name] = metric_of(name, _summary(name, values, tokens), len(values))
    return result


def differences(candidate: Scores, champion: Scores) -> dict[str, Metric]:
    """Candidate minus champion, paired by example."""
    result: dict[str, Metric] = {}
    for name in candidate.values:
        both = pairs(name, candidate, champion)
        if both.own:
            interval = intervals.difference(both.own, both.other, both.weights)
            result[name] = metric_of(name, interval, len(both.own))
    return result


def paired_tests(candidate: Scores, champion: Scores, asked: Sequence[Rule]) -> dict[str, PairedTest]:
    """By rule that compares with the champion, how surely it holds; a metric without any value has none."""
    result: dict[str, PairedTest] = {}
    for rule in asked:
        if rule.threshold is not None or rule.metric not in candidate.values:
            continue
        both = pairs(rule.metric, candidate, champion)
        if both.own:
            found = sign_flip(both.own, both.other, rule.margin, rule.upward, both.weights)
            result[str(rule)] = PairedTest(margin=rule.margin, **asdict(found))
    return result


def held_out(examples: Sequence[Example]) -> HeldOutRows:
    """The rows that were measured, as an event tells them; one at least."""
    digests = sorted(hashlib.sha256(example.record_id.encode()).hexdigest() for example in examples)
    whole = hashlib.sha256("\n".join(digests).encode()).hexdigest()
    return HeldOutRows(rows=len(digests), digest=whole, smallest=tuple(d[:16] for d in digests[:SKETCH]))


class Pairs(NamedTuple):
    """Of one metric the figures of both, on examples that both have one on; `weights` where it is a mean by tokens."""

    own: list[float]
    other: list[float]
    weights: tuple[list[int], list[int]] | None


def pairs(name: str, candidate: Scores, champion: Scores) -> Pairs:
    """The figures of a metric that both have, by example."""
    rows = zip(candidate.values[name], champion.values[name], candidate.tokens, champion.tokens, strict=True)
    both = [(a, b, x, y) for a, b, x, y in rows if a is not None and b is not None]
    weights = ([x for *_, x, _ in both], [y for *_, y in both]) if name == "loss" else None
    return Pairs([a for a, *_ in both], [b for _, b, *_ in both], weights)


def _summary(name: str, values: Sequence[float], tokens: Sequence[int]) -> Interval:
    if name == "loss":
        return intervals.mean(values, tokens)
    if not KINDS[name].share:
        return intervals.mean(values)
    value, low, high = intervals.share(sum(v == 100 for v in values), len(values))
    return 100 * value, 100 * low, 100 * high


def metric_of(name: str, interval: Interval, n: int) -> Metric:
    """A metric's figure with its direction and unit."""
    value, low, high = interval
    kind = KINDS[name]
    return Metric(value=value, low=low, high=high, n=n, higher_is_better=kind.higher_is_better, unit=kind.unit)
