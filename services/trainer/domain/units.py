"""What a step is made of: a row to learn, a pair of answers to one prompt, or an answer with a verdict. No tensors."""

import json
from collections.abc import Sequence
from dataclasses import dataclass
from hashlib import sha256

from services.lm.learning import Row


@dataclass(frozen=True, slots=True)
class Unit:
    """Rows that begin with the same `shared` tokens, which stand once in a forward pass: so two answers share their prompt.

    One row without a verdict is learnt; two are a chosen and a rejected answer; one with a verdict is KTO's.
    """

    rows: tuple[Row, ...]
    shared: int = 0
    desirable: bool | None = None

    @property
    def size(self) -> int:
        """Tokens it takes in a pass."""
        return self.shared + sum(len(row.ids) - self.shared for row in self.rows)

    @property
    def tokens(self) -> int:
        """Tokens of its rows, each row's whole length counted, as trainers count them that pass a prompt twice."""
        return sum(len(row.ids) for row in self.rows)

    @property
    def targets(self) -> int:
        """Number of tokens whose probability is asked for."""
        return sum(row.targets for row in self.rows)


def learn(row: Row) -> Unit:
    """A row to learn."""
    return Unit((row,))


def pair(chosen: Row, rejected: Row) -> Unit:
    """Two answers to one prompt, with all the tokens that they share."""
    alike = (i for i, (a, b) in enumerate(zip(chosen.ids, rejected.ids, strict=False)) if a != b)
    return Unit((chosen, rejected), next(alike, min(len(chosen.ids), len(rejected.ids))))


def verdict(row: Row, desirable: bool) -> Unit:
    """An answer that is wanted, or is not."""
    return Unit((row,), desirable=desirable)


def row_key(row: Row) -> str:
    """SHA-256 of what a model's probabilities for a row depend on: its tokens and which of them are asked for."""
    return sha256(json.dumps([row.ids, row.learnt], separators=(",", ":")).encode()).hexdigest()


def mismatched(units: Sequence[Unit]) -> list[Row]:
    """For each answer with a verdict its prompt with the next one's answer, for KTO's estimate of the KL term.

    The next in the order of the rows' digests, which is as good as shuffled, and hardly changes when a dataset grows; where
    its prompt is the same, the first behind it with another one. The spans learnt are the other answer's.
    """
    order = sorted(range(len(units)), key=lambda i: row_key(units[i].rows[0]))
    found: dict[int, Row] = {}
    for place, index in enumerate(order):
        row = units[index].rows[0]
        prompt = row.ids[: row.start]
        others = (units[order[(place + step) % len(order)]].rows[0] for step in range(1, len(order)))
        other = next((o for o in others if o.ids[: o.start] != prompt), units[order[(place + 1) % len(order)]].rows[0])
        answer = other.ids[other.start :]
        shift = row.start - other.start
        found[index] = Row(prompt + answer, tuple((a + shift, b + shift) for a, b in other.learnt))
    return [found[i] for i in range(len(units))]
