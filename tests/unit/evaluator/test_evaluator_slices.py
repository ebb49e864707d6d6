"""Parts of the rows: which there are, what is said of each, and that chance is not taken for a regression."""

import random
from dataclasses import dataclass, field

import pytest

from contracts.evaluation import SHOWN
from services.evaluator.domain.predictions import Scores
from services.evaluator.domain.slices import FLIPS, LEAST, LENGTH, MOST, NAME, compare, parts, shown, worst
from services.lm.scoring.holm import holm
from services.lm.scoring.paired import sign_flip


@dataclass(frozen=True)
class Row:
    tags: dict[str, str] = field(default_factory=dict[str, str])
    question: str | None = None


def scores(**columns: list[float | None]) -> Scores:
    return Scores(dict(columns), [1] * len(next(iter(columns.values()))))


def tools(*counts: int) -> list[Row]:
    return [Row({"tool": f"t{number}"}) for number, count in enumerate(counts) for _ in range(count)]


def test_parts_are_tags_with_enough_rows_and_thirds_of_the_questions():
    rows = [Row({"tool": "tar" if i % 2 else "awk", "lang": "en", "request_id": f"r{i}"}, "x" * i) for i in range(30)]
    found, left_out = parts([*rows, *tools(9)])
    names = [(part.tag, part.value, len(part.rows)) for part in found]
    assert names == [
        (LENGTH, "up to 9 characters", 10),
        (LENGTH, "10 to 19 characters", 10),
        (LENGTH, "20 characters and more", 10),
        ("lang", "en", 30),
        ("tool", "awk", 15),
        ("tool", "tar", 15),
    ]
    assert found[5].rows == tuple(range(1, 30, 2))
    assert left_out == 1, "t0 has nine rows; a request's id has one and is no part"


def test_a_tag_that_all_rows_have_is_no_part_and_questions_of_one_length_are_together():
    found, left_out = parts([Row({"lang": "en"}, "same")] * 40)
    assert (found, left_out) == ([], 0)
    short = [Row({}, "ab")] * 30 + [Row({}, "abcd")] * 10
    assert [(p.value, len(p.rows)) for p in parts(short)[0]] == [
        ("up to 2 characters", 30),
        ("3 characters and more", 10),
    ]


def test_parts_are_bounded_and_the_largest_are_kept():
    found, left_out = parts(tools(*range(LEAST, LEAST + MOST + 5)))
    assert (len(found), left_out) == (MOST, 5)
    assert (len(found[0].rows), len(found[-1].rows)) == (LEAST + MOST + 4, LEAST + 5)


def test_names_are_printable_bounded_and_still_tell_values_apart():
    assert shown("tar") == "tar"
    hostile = "\x1b[2J\u202egnp\n" + "y" * 10_000
    assert shown(hostile).isprintable()
    assert len(shown(hostile)) <= NAME + 11
    assert shown(hostile) != shown(hostile + "z")
    assert shown("a b") != shown("a  b")
    assert shown("")
    rows = [Row({"t" * 9_000: v * 9_000}) for v in "ab" for _ in range(LEAST)]
    values = {(d.tag, d.value) for d in compare(rows, scores(chrf=[1.0] * 20), scores(chrf=[2.0] * 20)).differences}
    assert len(values) == 2


def test_a_part_has_means_paired_difference_interval_and_p():
    rows = tools(20, 20)
    champion = scores(chrf=[50.0] * 40, loss=[1.0] * 40)
    drop = [30.0 + i for i in range(20)]
    candidate = scores(chrf=[*drop, *([60.0] * 20)], loss=[*([2.0] * 20), *([0.5] * 20)])
    found = {(d.value, d.metric): d for d in compare(rows, candidate, champion).differences}
    fell = found["t0", "chrf"]
    assert (fell.candidate, fell.champion, fell.difference.value) == (39.5, 50.0, -10.5)
    assert fell.difference.low < -10.5 < fell.difference.high < 0
    assert fell.difference.n == 20
    p = {}
    for (value, name), d in found.items():
        at = slice(0, 20) if value == "t0" else slice(20, 40)
        own, other = ([v for v in s.values[name][at] if v is not None] for s in (candidate, champion))
        p[value, name] = sign_flip(own, other, 0.0, upward=name == "loss", flips=FLIPS).p
        assert d.p == p[value, name]
    assert {key: d.adjusted for key, d in found.items()} == holm(p)
    assert found["t0", "loss"].adjusted <= SHOWN < found["t1", "loss"].adjusted, "a loss that grows is worse"
    assert [(d.value, d.metric) for d in worst([*found.values()], 9)] == [("t0", "chrf"), ("t0", "loss")]


def test_the_loss_of_a_part_is_by_tokens():
    rows, tokens = tools(10, 10), [1, 9] * 10
    champion = Scores({"loss": [1.0] * 20}, tokens)
    candidate = Scores({"loss": [2.0, 1.0] * 10}, tokens)
    found = compare(rows, candidate, champion).differences[0]
    assert (found.candidate, found.difference.value) == (pytest.approx(1.1), pytest.approx(0.1))


def test_a_metric_that_too_few_rows_of_a_part_have_is_not_told_there():
    rows = tools(12, 12)
    column: list[float | None] = [*([1.0] * 9), *([None] * 3), *([1.0] * 12)]
    found = compare(rows, scores(chrf=column), scores(chrf=[2.0] * 24))
    assert [d.value for d in found.differences] == ["t1"]
    assert found.parts == 2


def test_of_equal_models_few_evaluations_show_any_part_to_be_worse():
    """100 evaluations of 20 parts each: unadjusted nearly two in three would name one; Holm keeps it at 5 in 100."""
    dice, named, unadjusted = random.Random(7), 0, 0
    rows = tools(*([12] * 20))
    for _ in range(100):
        own, other = ([dice.gauss(50, 15) for _ in rows] for _ in range(2))
        found = compare(rows, scores(chrf=[*own]), scores(chrf=[*other])).differences
        named += any(d.adjusted <= SHOWN for d in found)
        unadjusted += any(d.p <= SHOWN for d in found)
    assert named <= 9
    assert unadjusted >= 40
