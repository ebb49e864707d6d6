from math import pi

import pytest

from contracts.events.registry import ModelPromotedV1
from contracts.types import HeldOutRows
from services.registry.domain.promotion import Promotion
from services.registry.domain.spending import Look, Spent, fresh_share, look, spend, words
from services.registry.domain.version import promoted
from services.registry.handlers import on_model_scored, on_model_trained
from services.registry.restore import RESTORE
from services.registry.store import SqlStore
from tests.unit.registry.builders import PROJECT, START, define, figures, meta, rows, scored, trained


def many(start: int, stop: int) -> HeldOutRows:
    return rows(*(f"record-{n}" for n in range(start, stop)))


def looks(sets: list[HeldOutRows]) -> list[Look]:
    spent: Spent | None = None
    found: list[Look] = []
    for each in sets:
        found.append(look(spent, each))
        spent = spend(found[-1], each)
    return found


def test_levels_on_the_same_rows_sum_to_alpha():
    found = looks([rows("a", "b")] * 400)
    assert [one.number for one in found[:3]] == [1, 2, 3]
    assert found[0].level(0.05) == pytest.approx(0.05 * 6 / pi**2)
    assert found[9].takes == pytest.approx(found[0].takes / 100)
    assert sum(one.takes for one in found) == pytest.approx(1 - found[-1].left)
    assert 0 < found[-1].left < 0.002


def test_fresh_rows_renew_by_their_share():
    first, second, third = looks([rows("a", "b"), rows("a", "b"), rows("c", "d")])
    assert (first.number, second.number, third.number) == (1, 2, 1)
    assert (third.fresh, third.left) == (1, pytest.approx(1 - 6 / pi**2))
    half = looks([rows("a", "b"), rows("a", "b"), rows("b", "c")])[2]
    assert (half.fresh, half.number) == (0.5, 2)
    assert half.left == pytest.approx(1 - half.takes - 0.5 * (first.takes + second.takes))


def test_the_share_of_fresh_rows_is_exact_below_the_sketch_and_near_above():
    assert fresh_share(many(0, 200), many(50, 250)) == pytest.approx(50 / 200)
    assert fresh_share(many(0, 20_000), many(5_000, 25_000)) == pytest.approx(0.25, abs=0.1)
    assert fresh_share(many(0, 100), many(0, 20_000)) == pytest.approx(0.995, abs=0.01)
    assert fresh_share(many(0, 20_000), many(0, 20_000)) == 0
    assert fresh_share(many(0, 20_000), many(30_000, 50_000)) == 1


def test_it_is_told_in_words():
    second = looks([rows("a"), rows("a")])[1]
    assert words(second, 0.05) == (
        "comparison 2 on these held-out rows: decided at 0.0076 of 0.05, 24% of which is left for further ones"
    )
    assert "50% of them fresh" in words(looks([rows("a"), rows("a", "b")])[1], 0.05)


def judged(store: SqlStore, run: str, revision: str, dataset: str = "d" * 64, chrf: float = 17, id: str = "") -> Look:
    if store.of_run(run) is None:
        on_model_trained(trained(run, revision), meta(f"trained-{run}"), store)
    event = scored(run, revision, chrf, dataset=dataset)
    on_model_scored(event.model_copy(update={"evaluation_id": id or event.evaluation_id}), meta(f"s-{run}-{id}"), store)
    version = store.of_run(run)
    assert version is not None
    assert version.decision is not None
    assert version.decision.look is not None
    return version.decision.look


def test_each_candidate_on_the_same_rows_meets_a_stricter_level_until_rows_are_fresh(store: SqlStore):
    revision = define(store)
    found = [judged(store, run, revision) for run in ("a", "b", "c")]
    assert [one.number for one in found] == [1, 2, 3]
    assert judged(store, "d", revision, dataset="e" * 64).number == 1
    spent = store.spent(PROJECT)
    assert spent is not None
    assert (spent.looks, spent.rows) == (1, rows("e" * 64))


def test_the_same_comparison_made_again_spends_nothing(store: SqlStore):
    revision = define(store, gate={"approval": "one person"})
    first = judged(store, "a", revision, chrf=40)
    assert judged(store, "a", revision, chrf=40, id="again") == first
    version = store.of_run("a")
    assert version is not None
    assert version.decision is not None
    assert version.decision.evaluation_id == "again"
    assert judged(store, "b", revision, chrf=40).number == 2


def test_a_comparison_made_again_after_others_does_not_give_their_looks_back(store: SqlStore):
    revision = define(store, gate={"approval": "one person"})
    looks = [
        judged(store, run, revision, chrf=40, id=id) for run, id in (("a", ""), ("b", ""), ("a", "again"), ("c", ""))
    ]
    assert [look.number for look in looks] == [1, 2, 1, 3]


def test_rules_on_numbers_spend_nothing(store: SqlStore):
    revision = define(store, gate={"require": ["chrf > 60"]})
    on_model_trained(trained("a", revision), meta("t"), store)
    on_model_scored(scored("a", revision, 17), meta("s"), store)
    version = store.of_run("a")
    assert version is not None
    assert version.decision is not None
    assert (version.stage, version.decision.look, store.spent(PROJECT)) == ("rejected", None, None)


def test_an_event_that_tells_no_rows_spends_nothing(store: SqlStore):
    revision = define(store)
    judged(store, "a", revision)
    on_model_trained(trained("b", revision), meta("t"), store)
    old = scored("b", revision, 40).model_copy(update={"held_out": None, "tests": {}})
    on_model_scored(old, meta("s"), store)
    version, spent = store.of_run("b"), store.spent(PROJECT)
    assert version is not None
    assert spent is not None
    assert (version.stage, spent.looks) == ("rejected", 1), (
        "its bound is known to 0.025, the second comparison asks 0.0076"
    )


def test_what_a_gate_of_before_promoted_is_in_production_after_a_rebuild(store: SqlStore):
    revision = define(store)
    on_model_trained(trained("a", revision), meta("t"), store)
    by_point = scored("a", revision, 18.1).model_copy(
        update={"tests": {}, "held_out": None, "differences": figures(0.1, 2)}
    )
    on_model_scored(by_point, meta("s"), store)
    version = store.of_run("a")
    assert version is not None
    assert version.stage == "rejected"
    rejected = promoted(version, Promotion(1, 1, None, "gate", "gate", "gate: chrf > champion", START))
    tuple(RESTORE.events[ModelPromotedV1](rejected, meta("p"), store))
    tuple(RESTORE.events[ModelPromotedV1](rejected, meta("p"), store))
    champion = store.champion(PROJECT)
    assert champion is not None
    assert (champion.number, champion.version, champion.detail) == (1, 1, "gate: chrf > champion")
