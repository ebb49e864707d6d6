"""A thousand turns whose truth is known, by the functions that decide: how often an equal model passes, and a better one.

A held-out example's chrF is spread over the scale and changes between two models of the same quality by some 15 points, half of
the answers not at all: an assumption, named here since the number of examples follows from it.
"""

from functools import cache
from typing import Any

import numpy as np

from contracts.project import ProjectSpec
from contracts.types import PairedTest
from services.lm.scoring.paired import sign_flip
from services.registry.domain.gate import Score
from services.registry.domain.power import examples_to_settle
from services.registry.domain.spending import Spent, look, spend
from services.registry.domain.verdict import Verdict, decide
from tests.unit.registry.builders import figures, rows

SPEC = ProjectSpec.model_validate({"project": "p", "base": "b"})
TURNS = 1000
SPREAD = 15.0
FIRST = look(None, None)
Vector = np.ndarray[Any, np.dtype[np.float64]]


def pair(random: np.random.Generator, n: int, gain: float) -> tuple[Vector, Vector]:
    """chrF of n examples of a candidate that is better by `gain`, and of its champion."""
    champion = random.beta(1.5, 1.5, n) * 100
    changed = random.random(n) < 0.5
    return champion + gain + changed * random.normal(0, SPREAD * np.sqrt(2), n), champion


def judged(random: np.random.Generator, n: int, gain: float, at: Any = FIRST) -> Verdict:
    candidate, champion = pair(random, n, gain)
    test = sign_flip(candidate.tolist(), champion.tolist(), flips=1999)
    tested = PairedTest(margin=0, **{name: getattr(test, name) for name in test.__slots__})
    difference = figures(float((candidate - champion).mean()), 1.96 * test.sd / np.sqrt(n))
    return decide(SPEC, Score(0, {}, {}, difference, {"chrf > champion": tested}), 0, at)


@cache
def stated() -> int:
    found = examples_to_settle(SPREAD, 3, FIRST.level(SPEC.gate.alpha))
    assert found is not None
    return found


def test_equal_models_are_promoted_in_one_turn_of_twenty_at_most():
    random = np.random.default_rng(12)
    promoted = sum(judged(random, 91, 0).decision == "promote" for _ in range(TURNS))
    assert 5 <= promoted <= TURNS * 0.05


def test_three_points_of_chrf_are_promoted_in_four_turns_of_five_within_the_stated_number_of_examples():
    assert 200 < stated() < 300
    random = np.random.default_rng(13)
    promoted = sum(judged(random, stated(), 3).decision == "promote" for _ in range(TURNS))
    assert promoted >= TURNS * 0.8
    assert sum(judged(random, stated() // 4, 3).decision == "promote" for _ in range(200)) < 200 * 0.5


def test_of_twenty_equal_models_in_turn_on_the_same_rows_one_is_promoted_in_a_project_of_twenty_at_most():
    random, same, wrong = np.random.default_rng(14), rows("held-out"), 0
    for _ in range(200):
        spent: Spent | None = None
        promoted = False
        for _ in range(20):
            now = look(spent, same)
            spent = spend(now, same)
            promoted |= judged(random, 60, 0, now).decision == "promote"
        wrong += promoted
    assert wrong <= 200 * 0.05
