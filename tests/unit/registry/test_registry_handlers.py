from datetime import timedelta

import pytest

from contracts.envelope import Event
from contracts.events.evaluator import EvaluationFailedV1
from contracts.events.registry import ModelPromotedV1, ModelRegisteredV1, ModelRejectedV1
from services.chassis.errors import Park
from services.registry.handlers import on_evaluation_failed, on_model_scored, on_model_trained
from services.registry.store import SqlStore
from services.registry.transitions import Deed, NothingBefore, promote, rollback
from tests.unit.registry.builders import PROJECT, START, define, meta, scored, trained

ANNA = Deed("anna", "looks good", START + timedelta(days=1))


def run(
    store: SqlStore, run_id: str, revision: str, chrf: float, champion: tuple[int, float] = (0, 18.0)
) -> list[Event]:
    on_model_trained(trained(run_id, revision), meta(f"trained-{run_id}"), store)
    return list(on_model_scored(scored(run_id, revision, chrf, champion), meta(f"scored-{run_id}"), store))


def stages(store: SqlStore) -> dict[int, str]:
    return {v.version: v.stage for v in store.versions(PROJECT, 10)}


def test_versions_count_up_and_a_run_has_one(store: SqlStore):
    revision = define(store)
    first = list(on_model_trained(trained("run-a", revision), meta(), store))
    again = list(on_model_trained(trained("run-a", revision), meta("other-id"), store))
    second = list(on_model_trained(trained("run-b", revision), meta(), store))
    assert again == []
    assert [e.model.version for e in (*first, *second) if isinstance(e, ModelRegisteredV1)] == [1, 2]
    assert len(store.history(PROJECT)) == 2


def test_a_passed_gate_promotes_with_everything_a_subscriber_needs(store: SqlStore):
    revision = define(store)
    (event,) = run(store, "run-a", revision, 46)
    assert isinstance(event, ModelPromotedV1)
    source = trained("run-a", revision)
    assert (event.model.version, event.by, event.cause, event.previous) == (1, "gate", "gate", None)
    assert (event.files, event.base, event.dataset) == (source.files, source.base, source.dataset)
    assert event.metrics["chrf"].value == 46
    assert event.evaluation is not None
    assert stages(store) == {1: "production"}
    entry = store.history(PROJECT)[-1]
    assert (entry.before, entry.after, entry.by, entry.event, entry.at) == (
        "candidate",
        "production",
        "gate",
        "scored-run-a",
        START,
    )


def test_a_better_one_takes_the_place_and_the_old_one_is_archived(store: SqlStore):
    revision = define(store)
    run(store, "run-a", revision, 40)
    (event,) = run(store, "run-b", revision, 46, (1, 40))
    assert isinstance(event, ModelPromotedV1)
    assert event.previous is not None
    assert event.previous.version == 1
    assert stages(store) == {1: "archived", 2: "production"}


def test_a_failed_gate_rejects_and_names_the_rules(store: SqlStore):
    revision = define(store, gate={"require": ["chrf > champion", "chrf > 60"]})
    (event,) = run(store, "run-a", revision, 17)
    assert isinstance(event, ModelRejectedV1)
    assert event.failed == ("chrf > champion: 17 is not > 18", "chrf > 60: 17 is not > 60")
    version = store.version(PROJECT, 1)
    assert version is not None
    assert (version.stage, version.failed) == ("rejected", event.failed)


def test_approval_waits_for_a_person(store: SqlStore):
    revision = define(store, gate={"require": ["chrf > champion"], "approval": "one person"})
    assert run(store, "run-a", revision, 46) == []
    version = store.version(PROJECT, 1)
    assert version is not None
    assert version.stage == "candidate"
    assert "waiting for approval" in version.detail
    (event,) = promote(store, version, "promote", ANNA)
    assert isinstance(event, ModelPromotedV1)
    assert (event.by, event.cause, event.detail) == ("anna", "promote", "looks good")
    assert event.metrics["chrf"].value == 46


def test_a_score_before_its_model_waits(store: SqlStore):
    revision = define(store)
    with pytest.raises(Park, match="run-a"):
        on_model_scored(scored("run-a", revision, 46), meta(), store)
    failed = EvaluationFailedV1(project=PROJECT, run_id="run-a", cause="x", detail="y")
    with pytest.raises(Park, match="run-a"):
        on_evaluation_failed(failed, meta(), store)


def test_what_cannot_be_measured_is_rejected_with_the_cause(store: SqlStore):
    on_model_trained(trained("run-a", define(store)), meta(), store)
    failed = EvaluationFailedV1(project=PROJECT, run_id="run-a", cause="empty_held_out", detail="no rows")
    (event,) = on_evaluation_failed(failed, meta(), store)
    assert isinstance(event, ModelRejectedV1)
    assert event.failed == ("evaluation failed: empty_held_out: no rows",)
    assert list(on_evaluation_failed(failed, meta("again"), store)) == []


def test_a_score_does_not_move_what_a_person_has_moved(store: SqlStore):
    revision = define(store)
    on_model_trained(trained("run-a", revision), meta(), store)
    version = store.version(PROJECT, 1)
    assert version is not None
    promote(store, version, "promote", ANNA)
    assert list(on_model_scored(scored("run-a", revision, 1), meta(), store)) == []
    kept = store.version(PROJECT, 1)
    assert kept is not None
    assert (kept.stage, kept.metrics["chrf"].value) == ("production", 1)


def test_a_champion_that_changed_meanwhile_is_not_beaten_by_accident(store: SqlStore):
    revision = define(store)
    run(store, "run-a", revision, 50)
    (event,) = run(store, "run-b", revision, 46, (0, 18))
    assert isinstance(event, ModelRejectedV1)
    assert event.failed == ("chrf > champion: 46 is not > 50",)
    on_model_trained(trained("run-c", revision), meta(), store)
    (other,) = on_model_scored(scored("run-c", revision, 60, (0, 18), dataset="e" * 64), meta(), store)
    assert isinstance(other, ModelRejectedV1)
    assert other.failed[0].startswith("champion changed")


def test_rollback_goes_back_step_by_step_and_tells_it(store: SqlStore):
    revision = define(store)
    for number, run_id in enumerate(("run-a", "run-b", "run-c")):
        run(store, run_id, revision, 40 + number, (number, 39.0 + number))
    version, (event,) = rollback(store, PROJECT, ANNA)
    assert isinstance(event, ModelPromotedV1)
    assert (version.version, event.model.version, event.cause) == (2, 2, "rollback")
    assert event.previous is not None
    assert event.previous.version == 3
    assert stages(store) == {1: "archived", 2: "production", 3: "archived"}
    assert rollback(store, PROJECT, ANNA)[0].version == 1
    with pytest.raises(NothingBefore, match="before the present one"):
        rollback(store, PROJECT, ANNA)
    assert stages(store) == {1: "production", 2: "archived", 3: "archived"}
    moves = [(e.version, e.after, e.cause, e.by) for e in store.history(PROJECT)][-4:]
    assert moves == [
        (3, "archived", "superseded", "anna"),
        (2, "production", "rollback", "anna"),
        (2, "archived", "superseded", "anna"),
        (1, "production", "rollback", "anna"),
    ]


def test_promoting_what_is_in_production_does_nothing(store: SqlStore):
    run(store, "run-a", define(store), 46)
    version = store.version(PROJECT, 1)
    assert version is not None
    before = store.history(PROJECT)
    assert list(promote(store, version, "promote", ANNA)) == []
    assert store.history(PROJECT) == before


def test_a_rejected_version_can_be_promoted_by_hand(store: SqlStore):
    run(store, "run-a", define(store), 1)
    version = store.version(PROJECT, 1)
    assert version is not None
    assert len(list(promote(store, version, "promote", ANNA))) == 1
    kept = store.version(PROJECT, 1)
    assert kept is not None
    assert (kept.stage, kept.failed) == ("production", ())
