"""Wanted x loaded -> actions."""

from datetime import UTC, datetime

from contracts.project import Prompt, Serve
from contracts.types import BaseRef
from services.serving.domain.reconcile import (
    Deployment,
    List,
    Load,
    Loaded,
    TritonTarget,
    Unload,
    kept,
    plan,
    production,
    triton_target,
)
from services.serving.domain.served_version import ServedVersion, kept_of_all, seen_here, with_bases

BASE = "0123456789ab" + "0" * 52
ON_BASE = "base-0123456789ab"


def version(number: int, sequence: int, answered: int = 0, kind: str = "lora") -> Deployment:
    return Deployment("shop", number, "full" if kind == "full" else "lora", BASE, sequence, answered)


def test_adapters_share_the_model_of_their_base() -> None:
    assert triton_target(version(3, 1)) == TritonTarget(ON_BASE, "shop-v3")
    assert triton_target(version(0, 1)) == TritonTarget(ON_BASE)


def test_a_full_fine_tune_is_a_model_of_its_own() -> None:
    assert triton_target(version(3, 1, kind="full")) == TritonTarget("shop-v3")


def test_what_is_not_there_is_loaded_with_all_its_adapters() -> None:
    wanted = [TritonTarget("b"), TritonTarget("b", "x"), TritonTarget("b", "y"), TritonTarget("f")]
    assert plan(wanted, {}) == (Load("b", frozenset({"x", "y"})), Load("f", frozenset()))


def test_a_new_adapter_needs_no_load() -> None:
    assert plan([TritonTarget("b", "x"), TritonTarget("b", "y")], {"b": Loaded(frozenset({"x"}))}) == (
        List("b", frozenset({"x", "y"})),
    )


def test_what_stands_is_left_alone() -> None:
    assert plan([TritonTarget("b"), TritonTarget("b", "x")], {"b": Loaded(frozenset({"x"}))}) == ()


def test_what_is_sick_is_unloaded_first() -> None:
    assert plan([TritonTarget("b", "x")], {"b": Loaded(frozenset({"x"}), healthy=False)}) == (
        Load("b", frozenset({"x"}), afresh=True),
    )


def test_what_nobody_wants_goes_last() -> None:
    assert plan([TritonTarget("new")], {"old": Loaded()}) == (Load("new", frozenset()), Unload("old"))


def test_production_is_what_answered_last() -> None:
    versions = [version(1, 3, answered=3), version(2, 2, answered=2), version(3, 4)]
    assert production(versions) == versions[0]
    assert production([version(3, 4)]) is None


def test_the_last_promoted_are_kept_and_production_always() -> None:
    versions = [version(1, 1, answered=1), version(2, 2), version(3, 3), version(4, 4)]
    assert [d.version for d in kept(versions, 2)] == [4, 3, 1]


def served(version_: Deployment) -> ServedVersion:
    base = BaseRef(name="tiny", digest=version_.base, files={})
    return ServedVersion(version_, base, {}, Prompt(), Serve(), "", datetime(2026, 1, 31, tzinfo=UTC), None)


def test_each_project_keeps_its_own_and_gets_its_base() -> None:
    other = Deployment("other", 1, "lora", BASE, 1, 1)
    removed = Deployment("shop", 4, "lora", BASE, 4, status="removed")
    all_of_them = [served(v) for v in (version(1, 1), version(2, 2), version(3, 3), removed, other)]
    keep = kept_of_all(all_of_them, 2)
    assert {s.key for s in keep} == {("shop", 2), ("shop", 3), ("other", 1)}
    assert {s.key for s in with_bases(keep)} == {s.key for s in keep} | {("shop", 0), ("other", 0)}


def test_a_promoted_base_is_not_added_again() -> None:
    keep = [served(version(0, 2, answered=2)), served(version(1, 1, answered=1))]
    assert with_bases(keep) == keep


def here(
    versions: list[Deployment], answered: dict[int, int], held: tuple[Deployment, ...] = (), last: int = 2
) -> tuple[list[int], int | None]:
    """The versions that one instance serves, and which of them is its production."""
    live = [served(v) for v in versions]
    seen = seen_here(
        live, kept_of_all(live, last), map(served, held), {("shop", v): s for v, s in answered.items()}, last
    )
    now = production(s.deployment for s in seen)
    return sorted(s.deployment.version for s in seen), now and now.version


def test_each_instance_answers_with_what_answered_in_its_own_triton() -> None:
    deployed_elsewhere = [version(1, 1, answered=1), version(2, 2, answered=2)]
    assert here(deployed_elsewhere, {1: 1}) == ([1, 2], 1)
    assert here(deployed_elsewhere, {1: 1, 2: 2}) == ([1, 2], 2)


def test_a_rollback_elsewhere_is_none_here_until_it_answered_here() -> None:
    rolled_back = [version(1, 3, answered=3), version(2, 2, answered=2)]
    assert here(rolled_back, {1: 1, 2: 2}) == ([1, 2], 2)
    assert here(rolled_back, {1: 3, 2: 2}) == ([1, 2], 1)


def test_what_answers_here_stays_although_all_others_let_it_go() -> None:
    first, second, third = version(1, 1, answered=1), version(2, 2, answered=2), version(3, 3, answered=3)
    assert here([second, third], {1: 1}, held=(first,)) == ([1, 2, 3], 1)
    assert here([second, third], {1: 1, 2: 2}, held=(first, second)) == ([2, 3], 2)
    assert here([], {1: 1}, held=(first,)) == ([], None), "out of service"
    assert here([first, second, third], {1: 1}, last=1) == ([1, 3], 1), "production here is kept, be it not the last"
