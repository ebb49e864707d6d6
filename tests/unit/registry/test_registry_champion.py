"""A score decides only against the version that serves: another champion leads to another evaluation, so often and no more."""

import threading
from collections.abc import Iterator
from datetime import timedelta
from pathlib import Path
from typing import Any

import pytest
from sqlalchemy import Engine
from sqlmodel import Session

from contracts.envelope import Event
from contracts.events.evaluator import EvaluationFailedV1
from contracts.events.registry import EvaluationRequestedV1, ModelPromotedV1, ModelRejectedV1
from contracts.events.serving import DeploymentChangedV1
from services.chassis.errors import Park
from services.chassis.storage.database import open_engine, reading, writing
from services.chassis.storage.migration import migrate
from services.registry.domain.representation import InForce, shown
from services.registry.domain.version import ModelVersion
from services.registry.handlers import on_deployment_changed, on_evaluation_failed, on_model_scored, on_model_trained
from services.registry.http import in_force
from services.registry.judgement import ROUNDS, EvaluationGoesOn, evaluate_again, rejudge_open
from services.registry.projects import retire
from services.registry.settings import RegistrySettings
from services.registry.store import SqlStore
from services.registry.transitions import Action, NotACandidate, promote
from tests.conftest import wait_until_locked
from tests.unit.registry.builders import PROJECT, START, define, deployment, meta, scored, trained
from tests.unit.registry.conftest import MIGRATIONS

ANNA = Action("anna", "", START + timedelta(days=1))
APPROVAL: dict[str, Any] = {"gate": {"require": ["chrf > champion"], "approval": "one person"}}


def train(store: SqlStore, revision: str, *runs: str) -> None:
    for run in runs:
        on_model_trained(trained(run, revision), meta(f"trained-{run}"), store)


def score(
    store: SqlStore, revision: str, run: str, chrf: float, champion: tuple[int, float] = (0, 18.0)
) -> list[Event]:
    return list(on_model_scored(scored(run, revision, chrf, champion), meta(f"scored-{run}-{champion[0]}"), store))


def found(store: SqlStore, number: int) -> ModelVersion:
    version = store.version(PROJECT, number)
    assert version is not None
    return version


def stages(store: SqlStore) -> dict[int, str]:
    return {v.version: v.stage for v in store.versions(PROJECT, 10)}


def asked(events: list[Event]) -> list[tuple[int, int, str]]:
    """(candidate, champion, evaluation id) of the requested evaluations."""
    return [
        (e.model.version, e.champion.model.version if e.champion else 0, e.evaluation_id)
        for e in events
        if isinstance(e, EvaluationRequestedV1)
    ]


def told(store: SqlStore, event: DeploymentChangedV1) -> list[Event]:
    return list(on_deployment_changed(event, meta(f"told-{event.promotion}-{event.status}"), store))


def test_a_score_against_a_champion_of_before_leads_to_one_new_evaluation(store: SqlStore) -> None:
    revision = define(store)
    train(store, revision, "a", "b")
    score(store, revision, "a", 50)
    events = score(store, revision, "b", 60)
    (event,) = events
    assert asked(events) == [(2, 1, "eval-b-r1")]
    assert isinstance(event, EvaluationRequestedV1)
    assert event.candidate == trained("b", revision)
    assert event.champion is not None
    assert event.champion.files == trained("a", revision).files
    waiting = found(store, 2)
    assert (waiting.stage, waiting.evaluation, waiting.awaited) == ("candidate", "pending", 1)
    assert "measured against version 0, but version 1 serves now" in waiting.detail
    assert score(store, revision, "b", 60) == []
    (decided,) = score(store, revision, "b", 60, (1, 50))
    assert isinstance(decided, ModelPromotedV1)
    assert stages(store) == {1: "archived", 2: "production"}


def test_a_score_against_the_base_counts_where_the_base_serves_again_meanwhile(store: SqlStore) -> None:
    revision = define(store)
    train(store, revision, "a", "b")
    score(store, revision, "a", 50)
    assert asked(score(store, revision, "b", 60)) == [(2, 1, "eval-b-r1")]
    told(store, deployment(1, "failed", promotion=1))
    assert isinstance(score(store, revision, "b", 60)[0], ModelPromotedV1)


@pytest.mark.parametrize("first", ["b", "c"])
def test_candidates_in_flight_are_each_measured_against_who_serves_in_the_end(store: SqlStore, first: str) -> None:
    revision = define(store)
    train(store, revision, "a", "b", "c")
    chrf, number = {"b": 55.0, "c": 60.0}, {"b": 2, "c": 3}
    second = "c" if first == "b" else "b"
    score(store, revision, "a", 50)
    assert [n for n, _, _ in asked(score(store, revision, first, chrf[first]))] == [number[first]]
    assert [n for n, _, _ in asked(score(store, revision, second, chrf[second]))] == [number[second]]
    score(store, revision, first, chrf[first], (1, 50))
    again = score(store, revision, second, chrf[second], (1, 50))
    assert asked(again) == [(number[second], number[first], f"eval-{second}-r2")]
    score(store, revision, second, chrf[second], (number[first], chrf[first]))
    assert found(store, 3).stage == "production"
    assert found(store, 2).stage == ("archived" if first == "b" else "rejected")


def test_a_candidate_that_waits_for_a_person_is_measured_again_when_the_champion_changes(store: SqlStore) -> None:
    revision = define(store, **APPROVAL)
    train(store, revision, "a", "b")
    score(store, revision, "a", 50)
    score(store, revision, "b", 40)
    before = store.champion(PROJECT)
    tuple(promote(store, found(store, 1), "promote", ANNA))
    assert asked(list(rejudge_open(store, PROJECT, before, ANNA))) == [(2, 1, "eval-b-r1")]
    (no,) = score(store, revision, "b", 40, (1, 50))
    assert isinstance(no, ModelRejectedV1)


def test_evaluations_that_no_champion_waits_for_end_with_a_person(store: SqlStore) -> None:
    """Two versions take turns in production faster than a third is measured."""
    revision = define(store)
    train(store, revision, "a", "b", "c")
    requests: list[tuple[int, int, str]] = []
    against = 0
    for turn in range(ROUNDS + 1):
        tuple(promote(store, found(store, 1 + turn % 2), "promote", ANNA))
        requests += asked(score(store, revision, "c", 60, (against, 18)))
        against = requests[-1][1]
    assert [id for _, _, id in requests] == [f"eval-c-r{n}" for n in range(1, ROUNDS + 1)]
    waiting = found(store, 3)
    assert (waiting.stage, waiting.evaluation) == ("candidate", "outdated")
    assert "noria evaluate" in waiting.detail
    assert store.open_candidates() == {"outdated": 1}
    (asked_for,) = evaluate_again(store, waiting, ANNA)
    assert asked([asked_for]) == [(3, 2, f"eval-c-r{ROUNDS + 1}")]
    assert (found(store, 3).awaited, store.open_candidates()) == (2, {"pending": 1})
    (decided,) = score(store, revision, "c", 60, (2, 50))
    assert isinstance(decided, ModelPromotedV1)


def test_an_evaluation_that_a_person_asks_for_is_against_the_champion_of_now(store: SqlStore) -> None:
    """`noria evaluate` once measured against the champion of before, and the candidate waited for good."""
    revision = define(store)
    train(store, revision, "a", "b")
    failed = EvaluationFailedV1(project=PROJECT, run_id="b", cause="crashed", detail="x", evaluation_id="eval-b")
    on_evaluation_failed(failed, meta("failed-b"), store)
    score(store, revision, "a", 50)
    assert asked(list(evaluate_again(store, found(store, 2), ANNA))) == [(2, 1, "eval-b-r1")]
    last = store.history_of(PROJECT, 2, 1)[0]
    assert (last.by, last.cause, last.reason) == ("anna", "evaluation", "anna asked for it")
    with pytest.raises(EvaluationGoesOn):
        tuple(evaluate_again(store, found(store, 2), ANNA))
    with pytest.raises(NotACandidate):
        tuple(evaluate_again(store, found(store, 1), ANNA))
    assert score(store, revision, "b", 60, (0, 18)) == []
    (decided,) = score(store, revision, "b", 60, (1, 50))
    assert isinstance(decided, ModelPromotedV1)


def test_an_evaluation_that_a_person_asks_for_of_a_project_that_compares_with_the_base(store: SqlStore) -> None:
    revision = define(store, evaluate={"compare": "base"}, **APPROVAL)
    train(store, revision, "a", "b")
    score(store, revision, "a", 50)
    tuple(promote(store, found(store, 1), "promote", ANNA))
    score(store, revision, "b", 60)
    tuple(evaluate_again(store, found(store, 2), ANNA))
    score(store, revision, "b", 60)
    assert (found(store, 2).evaluation, found(store, 2).awaited) == ("done", None)


def test_candidates_of_a_retired_project_need_nobody(store: SqlStore) -> None:
    revision = define(store, **APPROVAL)
    train(store, revision, "a")
    score(store, revision, "a", 50)
    assert store.open_candidates() == {"done": 1}
    tuple(retire(store, PROJECT, ANNA))
    assert store.open_candidates() == {}


def test_a_failure_of_an_overtaken_evaluation_says_nothing_of_the_newer_one(store: SqlStore) -> None:
    revision = define(store)
    train(store, revision, "a", "b")
    score(store, revision, "a", 50)
    score(store, revision, "b", 60)
    for id, status in (("eval-b", "pending"), ("eval-b-r1", "failed")):
        failed = EvaluationFailedV1(project=PROJECT, run_id="b", cause="crashed", detail="x", evaluation_id=id)
        assert list(on_evaluation_failed(failed, meta(id), store)) == []
        assert found(store, 2).evaluation == status


def test_what_serving_could_not_deploy_is_no_champion(store: SqlStore) -> None:
    revision = define(store)
    train(store, revision, "a", "b", "c")
    score(store, revision, "a", 50)
    told(store, deployment(1, "deployed", promotion=1))
    score(store, revision, "b", 60, (1, 50))
    train(store, revision, "d")
    told(store, deployment(2, "failed", promotion=2, detail="it does not answer a probe"))
    wanted = found(store, 2)
    assert (wanted.stage, wanted.deployment, wanted.deployment_detail) == (
        "production",
        "failed",
        "it does not answer a probe",
    )
    champion = store.champion(PROJECT)
    assert champion is not None
    assert champion.version == 1
    last = store.history(PROJECT, 100)[-1][1]
    assert (last.version, last.cause, last.by, last.reason) == (
        2,
        "deployment_failed",
        "serving",
        wanted.deployment_detail,
    )
    assert asked(score(store, revision, "c", 55, (2, 60))) == [(3, 1, "eval-c-r1")]
    (event,) = score(store, revision, "c", 55, (1, 50))
    assert isinstance(event, ModelPromotedV1)


def test_who_lost_against_a_version_that_never_served_is_measured_again(store: SqlStore) -> None:
    revision = define(store)
    train(store, revision, "a", "b", "c")
    score(store, revision, "a", 50)
    told(store, deployment(1, "deployed", promotion=1))
    score(store, revision, "b", 60, (1, 50))
    score(store, revision, "c", 55, (2, 60))
    assert stages(store)[3] == "rejected"
    events = told(store, deployment(2, "failed", promotion=2, detail="x"))
    assert asked(events) == [(3, 1, "eval-c-r1")]
    assert (found(store, 3).stage, found(store, 3).failed) == ("candidate", ())
    assert [e.cause for e in store.history_of(PROJECT, 3, 9)] == ["registered", "gate", "reopened", "evaluation"]
    (event,) = score(store, revision, "c", 55, (1, 50))
    assert isinstance(event, ModelPromotedV1)


def test_a_version_that_serves_after_all_is_the_champion_again(store: SqlStore) -> None:
    revision = define(store)
    train(store, revision, "a")
    score(store, revision, "a", 50)
    told(store, deployment(1, "failed", promotion=1, detail="disk full"))
    assert store.champion(PROJECT) is None
    told(store, deployment(1, "deployed", promotion=1))
    champion = store.champion(PROJECT)
    assert champion is not None
    assert (champion.version, found(store, 1).deployment) == (1, "deployed")
    assert list(promote(store, found(store, 1), "promote", ANNA)) == []


def test_what_failed_can_be_promoted_once_more_and_news_of_the_first_time_change_nothing(store: SqlStore) -> None:
    revision = define(store)
    train(store, revision, "a")
    score(store, revision, "a", 50)
    told(store, deployment(1, "failed", promotion=1, detail="disk full"))
    (event,) = promote(store, found(store, 1), "promote", ANNA)
    assert isinstance(event, ModelPromotedV1)
    assert event.promotion == 2
    assert found(store, 1).deployment == "pending"
    told(store, deployment(1, "failed", promotion=1, detail="late"))
    assert found(store, 1).deployment == "pending"
    told(store, deployment(1, "deployed"))
    assert found(store, 1).deployment == "deployed"
    with pytest.raises(Park, match="no promotion of shell-copilot@7"):
        told(store, deployment(7, "deployed"))


def test_a_rollback_passes_over_what_could_not_be_deployed(store: SqlStore) -> None:
    from services.registry.transitions import rollback

    revision = define(store)
    train(store, revision, "a", "b", "c")
    for number in (1, 2, 3):
        tuple(promote(store, found(store, number), "promote", ANNA))
        told(store, deployment(number, "failed" if number == 2 else "deployed", promotion=number))
    assert rollback(store, PROJECT, ANNA)[0] == 1


@pytest.fixture
def engine(postgres: str, tmp_path: Path) -> Iterator[Engine]:
    engine = open_engine(RegistrySettings(home=tmp_path, database=postgres))
    migrate(engine, "registry", MIGRATIONS)
    yield engine
    engine.dispose()


def test_two_instances_ask_for_one_evaluation(engine: Engine) -> None:
    """One takes the score that promotes, the other at the same moment a score against the champion of before."""
    with writing(engine) as connection, Session(connection) as session:
        revision = define(SqlStore(session))
        train(SqlStore(session), revision, "a", "b")
    events: list[Event] = []

    def other() -> None:
        with writing(engine) as connection, Session(connection) as session:
            events.extend(score(SqlStore(session), revision, "b", 60))
            session.flush()

    thread = threading.Thread(target=other)
    with writing(engine) as connection, Session(connection) as session:
        promoted = score(SqlStore(session), revision, "a", 50)
        session.flush()
        thread.start()
        wait_until_locked(engine)
    thread.join(10)
    assert [type(e) for e in promoted] == [ModelPromotedV1]
    assert asked(events) == [(2, 1, "eval-b-r1")]
    with reading(engine) as connection, Session(connection) as session:
        assert stages(SqlStore(session)) == {1: "production", 2: "candidate"}


def test_what_is_wanted_and_what_answers_are_told_apart_while_a_promotion_waits(store: SqlStore) -> None:
    revision = define(store)
    train(store, revision, "a", "b")
    score(store, revision, "a", 50)
    assert (in_force(store, PROJECT), seen(store, 1)) == (InForce(answering=0, champion=1), (False, True, "pending"))
    told(store, deployment(1, "deployed", promotion=1))
    assert (in_force(store, PROJECT), seen(store, 1)) == (InForce(answering=1, champion=1), (True, True, "deployed"))
    score(store, revision, "b", 60, (1, 50))
    assert in_force(store, PROJECT) == InForce(answering=1, champion=2)
    assert (seen(store, 1), seen(store, 2)) == ((True, False, "deployed"), (False, True, "pending"))
    told(store, deployment(2, "deployed", promotion=2))
    assert (seen(store, 1), seen(store, 2)) == ((False, False, "deployed"), (True, True, "deployed"))
    tuple(retire(store, PROJECT, ANNA))
    assert in_force(store, PROJECT) == InForce(answering=0, champion=0)


def seen(store: SqlStore, number: int) -> tuple[bool, bool, str]:
    view = shown(found(store, number), in_force(store, PROJECT))
    return view["serves"], view["is_champion"], view["deployment"]["status"]
