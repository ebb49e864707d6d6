from datetime import timedelta

import pytest

from contracts.envelope import Event
from contracts.events.evaluator import EvaluationFailedV1
from contracts.events.registry import ModelPromotedV1, ModelRegisteredV1, ModelRejectedV1, ProjectDefinedV1
from services.chassis.errors import Park
from services.registry.domain.history import Transition
from services.registry.domain.version import ModelVersion
from services.registry.handlers import on_evaluation_failed, on_model_scored, on_model_trained
from services.registry.projects import define as define_project
from services.registry.projects import retire
from services.registry.store import SqlStore
from services.registry.transitions import Action, NotACandidate, NothingBefore, promote, reject, rollback
from tests.unit.registry.builders import PROJECT, START, define, meta, scored, trained

ANNA = Action("anna", "looks good", START + timedelta(days=1))


def run(
    store: SqlStore, run_id: str, revision: str, chrf: float, champion: tuple[int, float] = (0, 18.0)
) -> list[Event]:
    on_model_trained(trained(run_id, revision), meta(f"trained-{run_id}"), store)
    return list(on_model_scored(scored(run_id, revision, chrf, champion), meta(f"scored-{run_id}"), store))


def history(store: SqlStore) -> list[Transition]:
    return [entry for _, entry in store.history(PROJECT, 100)]


def found(store: SqlStore, number: int) -> ModelVersion:
    version = store.version(PROJECT, number)
    assert version is not None
    return version


def stages(store: SqlStore) -> dict[int, str]:
    return {v.version: v.stage for v in store.versions(PROJECT, 10)}


def test_versions_count_up_and_a_run_has_one(store: SqlStore):
    revision = define(store)
    first = list(on_model_trained(trained("run-a", revision), meta(), store))
    again = list(on_model_trained(trained("run-a", revision), meta("other-id"), store))
    second = list(on_model_trained(trained("run-b", revision), meta(), store))
    assert again == []
    assert [e.model.version for e in (*first, *second) if isinstance(e, ModelRegisteredV1)] == [1, 2]
    assert len(history(store)) == 2


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
    entry = history(store)[-1]
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
    assert event.failed == (
        "chrf > champion: worse: -1 [-1.4, -0.6] against the champion on 91 examples, p 1 above 0.03",
        "chrf > 60: worse: 17 [15, 19] on 91 examples",
    )
    assert event.detail.endswith(
        "comparison 1 on these held-out rows: decided at 0.03 of 0.05, 39% of which is left for further ones"
    )
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


def test_a_failed_evaluation_rejects_nobody_and_a_later_score_decides(store: SqlStore):
    revision = define(store)
    on_model_trained(trained("run-a", revision), meta(), store)
    failed = EvaluationFailedV1(project=PROJECT, run_id="run-a", cause="out_of_memory", detail="killed")
    assert list(on_evaluation_failed(failed, meta("failed"), store)) == []
    version = found(store, 1)
    assert (version.stage, version.evaluation) == ("candidate", "failed")
    assert version.detail == "evaluation failed: out_of_memory: killed"
    assert (history(store)[-1].cause, history(store)[-1].event) == ("evaluation", "failed")
    (event,) = on_model_scored(scored("run-a", revision, 46), meta("again"), store)
    assert isinstance(event, ModelPromotedV1)
    assert (found(store, 1).stage, found(store, 1).evaluation) == ("production", "done")


def test_a_person_may_reject_what_could_not_be_measured_and_nothing_else(store: SqlStore):
    on_model_trained(trained("run-a", define(store)), meta(), store)
    failed = EvaluationFailedV1(project=PROJECT, run_id="run-a", cause="empty_held_out", detail="no rows")
    on_evaluation_failed(failed, meta(), store)
    (event,) = reject(store, found(store, 1), ANNA)
    assert isinstance(event, ModelRejectedV1)
    assert (event.by, event.detail, event.failed) == ("anna", "looks good", ())
    assert stages(store) == {1: "rejected"}
    with pytest.raises(NotACandidate, match="rejected; only a candidate"):
        reject(store, found(store, 1), ANNA)


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


def test_rollback_goes_back_step_by_step_and_tells_it(store: SqlStore):
    revision = define(store)
    for number, run_id in enumerate(("run-a", "run-b", "run-c")):
        run(store, run_id, revision, 40 + number, (number, 39.0 + number))
    number, (event,) = rollback(store, PROJECT, ANNA)
    assert isinstance(event, ModelPromotedV1)
    assert (number, event.model.version, event.cause) == (2, 2, "rollback")
    assert event.previous is not None
    assert event.previous.version == 3
    assert stages(store) == {1: "archived", 2: "production", 3: "archived"}
    assert rollback(store, PROJECT, ANNA)[0] == 1
    assert stages(store) == {1: "production", 2: "archived", 3: "archived"}
    moves = [(e.version, e.after, e.cause, e.by) for e in history(store)][-4:]
    assert moves == [
        (3, "archived", "superseded", "anna"),
        (2, "production", "rollback", "anna"),
        (2, "archived", "superseded", "anna"),
        (1, "production", "rollback", "anna"),
    ]


def test_two_rollbacks_go_two_versions_back_and_one_that_came_twice_is_left_once(store: SqlStore):
    revision = define(store)
    for number, run_id in enumerate(("run-a", "run-b", "run-c")):
        run(store, run_id, revision, 40 + number, (number, 39.0 + number))
    tuple(promote(store, found(store, 1), "promote", ANNA))
    assert [rollback(store, PROJECT, ANNA)[0] for _ in range(3)] == [3, 2, 1]


def test_rollback_ends_at_the_base_with_its_own_figures_and_goes_no_further(store: SqlStore):
    revision = define(store)
    run(store, "run-a", revision, 46)
    newer = define(store, START + timedelta(hours=1), prompt={"system": "Be brief."})
    number, (event,) = rollback(store, PROJECT, ANNA)
    assert isinstance(event, ModelPromotedV1)
    assert (number, event.model.version, event.files, event.cause) == (0, 0, {}, "rollback")
    assert (event.base, event.project_revision) == (trained("run-a", revision).base, newer)
    assert event.metrics == scored("run-a", revision, 46).base_metrics
    assert event.previous is not None
    assert event.previous.version == 1
    assert stages(store) == {1: "archived"}
    assert store.champion(PROJECT) is not None
    assert (history(store)[-1].version, history(store)[-1].after) == (0, "production")
    with pytest.raises(NothingBefore, match="nothing was in production"):
        rollback(store, PROJECT, ANNA)
    with pytest.raises(NothingBefore, match="answers already"):
        rollback(store, PROJECT, ANNA, to=0)
    run(store, "run-b", newer, 50)
    assert stages(store) == {1: "archived", 2: "production"}
    assert rollback(store, PROJECT, ANNA)[0] == 0


def test_rollback_to_a_version_by_its_number_wants_one_that_was_there(store: SqlStore):
    revision = define(store)
    for number, run_id in enumerate(("run-a", "run-b", "run-c")):
        run(store, run_id, revision, 40 + number, (number, 39.0 + number))
    assert rollback(store, PROJECT, ANNA, to=1)[0] == 1
    assert stages(store) == {1: "production", 2: "archived", 3: "archived"}
    on_model_trained(trained("run-d", revision), meta(), store)
    with pytest.raises(NothingBefore, match="never in production"):
        rollback(store, PROJECT, ANNA, to=4)
    with pytest.raises(NothingBefore, match="no version of 'none'"):
        rollback(store, "none", ANNA, to=0)


def test_promoting_what_is_in_production_does_nothing(store: SqlStore):
    run(store, "run-a", define(store), 46)
    version = store.version(PROJECT, 1)
    assert version is not None
    before = history(store)
    assert list(promote(store, version, "promote", ANNA)) == []
    assert history(store) == before


def test_a_rejected_version_can_be_promoted_by_hand(store: SqlStore):
    run(store, "run-a", define(store), 1)
    version = store.version(PROJECT, 1)
    assert version is not None
    assert len(list(promote(store, version, "promote", ANNA))) == 1
    kept = store.version(PROJECT, 1)
    assert kept is not None
    assert (kept.stage, kept.failed) == ("production", ())


def test_a_retired_project_decides_nothing_and_comes_back_as_it_was_when_applied_again(store: SqlStore):
    revision = define(store)
    run(store, "run-a", revision, 46)
    (event,) = retire(store, PROJECT, ANNA)
    assert isinstance(event, ProjectDefinedV1)
    assert (event.retired_after, event.by, event.reason, event.revision) == (1, "anna", "looks good", revision)
    assert stages(store) == {1: "archived"}
    assert store.champion(PROJECT) is None
    assert store.projects.is_retired(PROJECT)
    assert list(retire(store, PROJECT, ANNA)) == []
    assert run(store, "run-b", revision, 60) == []
    assert "out of service" in found(store, 2).detail
    answer, events = define_project(store, {"project": PROJECT, "base": "smollm2-135m-instruct"}, ANNA.at)
    defined, promoted = events
    assert answer["changed"] is True
    assert isinstance(defined, ProjectDefinedV1)
    assert isinstance(promoted, ModelPromotedV1)
    assert (defined.retired_after, promoted.model.version, promoted.promotion) == (None, 1, 2)
    assert stages(store) == {1: "production", 2: "candidate"}
    assert not store.projects.is_retired(PROJECT)


def test_a_promotion_brings_a_retired_project_back_and_tells_it(store: SqlStore):
    revision = define(store)
    run(store, "run-a", revision, 46)
    tuple(retire(store, PROJECT, ANNA))
    defined, promoted = promote(store, found(store, 1), "promote", ANNA)
    assert isinstance(defined, ProjectDefinedV1)
    assert isinstance(promoted, ModelPromotedV1)
    assert (defined.retired_after, promoted.promotion) == (None, 2)
    assert store.retired_after(PROJECT) is None
    assert [e.cause for e in history(store)] == ["registered", "gate", "retired", "promote"]
