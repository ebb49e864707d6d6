import json
from datetime import UTC, datetime, timedelta
from pathlib import Path
from typing import Any

import pytest
from sqlalchemy import select, update

from contracts.envelope import Meta
from contracts.evaluation import Regressions, Slices
from contracts.events.evaluator import EvaluationFailedV1, ModelScoredV1
from contracts.events.registry import EvaluationRequestedV1, ModelPromotedV1, ProjectDefinedV1
from contracts.events.trainer import ModelTrainedV1
from contracts.project import ProjectSpec
from contracts.types import ArtifactRef, HeldOutRows, Metric, ModelRef, PairedTest
from services.chassis.errors import Park
from services.chassis.http.application import ApiError
from services.chassis.http.guard import Caller
from services.chassis.jobs.job import Job
from services.chassis.jobs.queue import Failure
from services.chassis.retention.pruning import prune
from services.evaluator import restore
from services.evaluator.domain.task import Outcome, PredictionsRef, Task
from services.evaluator.handlers import (
    KIND,
    on_evaluated,
    on_evaluation_requested,
    on_failed,
    on_model_promoted,
    on_model_trained,
    on_project_defined,
)
from services.evaluator.http import retried, view
from services.evaluator.settings import EvaluatorSettings
from services.evaluator.store import SqlStore, horizons

EXAMPLES = Path(__file__).parents[3] / "contracts" / "examples"
ANYBODY = Caller("anybody", frozenset())
PROJECT = "shell-copilot"
START = datetime(2026, 1, 31, 12, tzinfo=UTC)
FILE = ArtifactRef(uri="file:///store/sha256/aa", sha256="a" * 64, bytes=9)


def meta(at: datetime = START) -> Meta:
    return Meta(id="event-1", source="/noria/trainer", type="test", time=at)


def example(topic: str) -> dict[str, Any]:
    return json.loads((EXAMPLES / f"{topic}.json").read_text())["data"]


def define(store: SqlStore, revision: str | None = None, at: datetime = START, **sections: object) -> None:
    spec = ProjectSpec.model_validate({"project": PROJECT, "base": "b", "serve": {"max_tokens": 33}, **sections})
    defined = ProjectDefinedV1(project=PROJECT, revision=revision or trained().project_revision, spec=spec)
    store.projects.remember(defined, at)


def trained(run_id: str = "run-1") -> ModelTrainedV1:
    event = ModelTrainedV1.model_validate(example("trainer.model.trained.v1"))
    return event.model_copy(update={"run_id": run_id})


def promoted() -> ModelPromotedV1:
    event = ModelPromotedV1.model_validate(example("registry.model.promoted.v1"))
    return event.model_copy(update={"model": ModelRef(name=PROJECT, version=3), "files": {"adapter.safetensors": FILE}})


def job(store: SqlStore, run_id: str = "run-1") -> Job:
    found = store.jobs.get(f"eval-{run_id}")
    assert found is not None
    return found


def outcome(model: str = "m" * 64) -> Outcome:
    figures = {"chrf": Metric(value=46, low=41, high=51, n=91)}
    return Outcome(
        metrics=figures,
        champion_metrics=figures,
        base_metrics={},
        differences={},
        results=FILE,
        examples=91,
        predictions=(PredictionsRef(model=model, settings="greedy", file=FILE),),
    )


def test_the_first_candidate_is_measured_against_its_base(store: SqlStore):
    define(store)
    assert list(on_model_trained(trained(), meta(), store)) == []
    task = Task.model_validate(job(store).spec)
    assert task.champion == task.base
    assert (task.base.kind, task.base.base) == ("base", trained().base)
    assert (task.candidate.kind, task.candidate.files) == ("lora", trained().files)
    assert (task.max_tokens, task.split) == (33, trained().dataset.files["held_out"])
    evaluation = store.evaluation("eval-run-1")
    assert evaluation is not None
    assert (evaluation.champion.version, evaluation.created_at, evaluation.status) == (0, START, "queued")


def test_the_gates_rules_are_tested_and_told_with_the_rows(store: SqlStore):
    define(store, gate={"require": ["chrf > champion - 1", "loss < 2"]}, evaluate={"right": "chrf >= 80"})
    on_model_trained(trained(), meta(), store)
    task = Task.model_validate(job(store).spec)
    assert (task.require, task.right) == (("chrf > champion - 1", "loss < 2"), "chrf >= 80")
    test = PairedTest(p=0.01, margin=-1, sd=9, n=91, differing=40, flips=99_999, exact=False)
    rows = HeldOutRows(rows=1, digest="a" * 64, smallest=("0" * 16,))
    parts = Slices(table=FILE, parts=1, tests=4, left_out=0, worst=())
    cases = Regressions(cases=1, kept=0, fixed=0, regressed=1, wrong=0, records=("r1",))
    more = {"held_out": rows, "slices": parts, "regressions": cases}
    found = outcome().model_copy(update={"tests": {"chrf > champion - 1": test}, **more})
    (event,) = on_evaluated(store, job(store), found.model_dump(mode="json"))
    assert isinstance(event, ModelScoredV1)
    assert (event.tests, event.held_out) == ({"chrf > champion - 1": test}, rows)
    assert (event.slices, event.regressions) == (parts, cases)
    before = store.evaluation("eval-run-1")
    restore.on_model_scored(event, meta(), store)
    after = store.evaluation("eval-run-1")
    assert before is not None
    assert before.outcome is not None
    assert after is not None
    assert after.outcome is not None
    told = {"tests", "held_out", "slices", "regressions"}
    assert (
        after.outcome.model_dump(include=told)
        == before.outcome.model_dump(include=told)
        == found.model_dump(include=told)
    )
    shown = view(after, None)
    assert (shown["slices"]["parts"], shown["regressions"]["records"]) == (1, ["r1"])


def test_a_judge_is_asked_as_the_project_says_and_what_it_found_is_told_and_restored(store: SqlStore):
    judge = {"url": "https://api.example.com/v1", "model": "large-1", "rubric": "Be right."}
    define(store, evaluate={"judge": judge})
    on_model_trained(trained(), meta(), store)
    task = Task.model_validate(job(store).spec)
    assert task.judge is not None
    assert (task.judge.rubric, task.project) == ("Be right.", PROJECT)
    report = ModelScoredV1.model_validate(example("evaluator.model.scored.v1")).judge
    found = outcome().model_copy(update={"judge": report})
    (event,) = on_evaluated(store, job(store), found.model_dump(mode="json"))
    assert isinstance(event, ModelScoredV1)
    assert event.judge == report
    evaluation = store.evaluation("eval-run-1")
    assert evaluation is not None
    assert view(evaluation, None)["judge"]["model"] == "large-1"
    store.keep(evaluation.model_copy(update={"outcome": None}))
    restore.on_model_scored(event, meta(), store)
    after = store.evaluation("eval-run-1")
    assert after is not None
    assert after.outcome is not None
    assert after.outcome.judge == report


def test_a_run_is_measured_once(store: SqlStore):
    define(store)
    on_model_trained(trained(), meta(), store)
    before = store.evaluation("eval-run-1")
    on_model_trained(trained(), meta(START + timedelta(hours=1)), store)
    assert store.evaluation("eval-run-1") == before


def test_an_unknown_project_waits(store: SqlStore):
    with pytest.raises(Park, match=PROJECT):
        on_model_trained(trained().model_copy(update={"spec": None}), meta(), store)


def test_a_promoted_version_is_the_champion_of_the_next(store: SqlStore):
    define(store)
    assert list(on_model_promoted(promoted(), meta(), store)) == []
    on_model_trained(trained(), meta(), store)
    task = Task.model_validate(job(store).spec)
    assert task.champion.files == {"adapter.safetensors": FILE}
    evaluation = store.evaluation("eval-run-1")
    assert evaluation is not None
    assert evaluation.champion.version == 3


def test_each_is_measured_under_the_prompt_it_is_served_with(store: SqlStore):
    for hour, (revision, system, limit) in enumerate(
        (("1" * 64, "oldest", 10), (trained().project_revision, "trained", 20), ("3" * 64, "newest", 30))
    ):
        at = START + timedelta(hours=hour)
        define(store, revision, at, prompt={"system": system}, serve={"max_tokens": limit})
    on_model_promoted(promoted().model_copy(update={"project_revision": "1" * 64}), meta(), store)
    on_model_trained(trained(), meta(), store)
    task = Task.model_validate(job(store).spec)
    prompts = [subject.prompt.system for subject in (task.champion, task.candidate, task.base)]
    assert (prompts, task.max_tokens) == (["oldest", "trained", "newest"], 30)


def test_a_champion_whose_revision_is_not_known_has_the_prompt_of_today(store: SqlStore):
    define(store, prompt={"system": "today"})
    on_model_promoted(promoted().model_copy(update={"project_revision": "9" * 64, "spec": None}), meta(), store)
    on_model_trained(trained(), meta(), store)
    assert Task.model_validate(job(store).spec).champion.prompt.system == "today"


def requested(champion: ModelPromotedV1 | None, id: str = "eval-run-1-r1") -> EvaluationRequestedV1:
    model = ModelRef(name=PROJECT, version=4)
    return EvaluationRequestedV1(project=PROJECT, model=model, evaluation_id=id, candidate=trained(), champion=champion)


def test_what_the_registry_asks_for_is_measured_against_the_champion_that_it_names(store: SqlStore):
    define(store)
    on_model_trained(trained(), meta(), store)
    for _ in range(2):
        assert list(on_evaluation_requested(requested(promoted()), meta(START + timedelta(hours=1)), store)) == []
    again = store.jobs.get("eval-run-1-r1")
    assert again is not None
    task = Task.model_validate(again.spec)
    assert (task.evaluation_id, task.champion.files) == ("eval-run-1-r1", {"adapter.safetensors": FILE})
    assert [e.champion.version for e in store.evaluations(PROJECT, 9)] == [3, 0]
    (event,) = on_evaluated(store, again, outcome().model_dump(mode="json"))
    assert isinstance(event, ModelScoredV1)
    assert (event.run_id, event.evaluation_id, event.champion.version) == ("run-1", "eval-run-1-r1", 3)


def test_a_champion_that_is_the_base_is_measured_as_the_base(store: SqlStore):
    define(store)
    back = promoted().model_copy(update={"model": ModelRef(name=PROJECT, version=0), "files": {}})
    on_model_promoted(back, meta(), store)
    on_model_trained(trained(), meta(), store)
    on_evaluation_requested(requested(None), meta(), store)
    for id in ("eval-run-1", "eval-run-1-r1"):
        queued = store.jobs.get(id)
        assert queued is not None
        task = Task.model_validate(queued.spec)
        assert task.champion == task.base
    assert {e.champion.version for e in store.evaluations(PROJECT, 9)} == {0}


def test_an_evaluation_asked_for_waits_for_its_project(store: SqlStore):
    bare = requested(None).model_copy(update={"candidate": trained().model_copy(update={"spec": None})})
    with pytest.raises(Park, match=PROJECT):
        on_evaluation_requested(bare, meta(), store)


def test_compare_with_the_base_leaves_the_champion_alone(store: SqlStore):
    define(store, evaluate={"compare": "base"})
    on_model_promoted(promoted(), meta(), store)
    on_model_trained(trained(), meta(), store)
    task = Task.model_validate(job(store).spec)
    assert task.champion == task.base


def test_without_held_out_the_validation_split_is_measured(store: SqlStore):
    define(store, evaluate={"held_out": False})
    on_model_trained(trained(), meta(), store)
    assert Task.model_validate(job(store).spec).split == trained().dataset.files["validation"]


def test_the_outcome_is_kept_and_told(store: SqlStore):
    define(store)
    on_model_trained(trained(), meta(), store)
    (event,) = on_evaluated(store, job(store), outcome().model_dump(mode="json"))
    assert isinstance(event, ModelScoredV1)
    assert (event.run_id, event.evaluation_id, event.champion.version) == ("run-1", "eval-run-1", 0)
    assert event.metrics["chrf"].value == 46
    assert event.dataset == trained().dataset
    evaluation = store.evaluation("eval-run-1")
    assert evaluation is not None
    assert (evaluation.status, evaluation.outcome) == ("done", outcome())
    assert store.jobs.finish(leased(store), START, "done")
    shown = view(evaluation, job(store))
    assert (shown["status"], shown["metrics"]["chrf"]["n"], shown["results"]["sha256"]) == ("done", 91, FILE.sha256)


def test_answers_of_one_evaluation_go_into_the_next(store: SqlStore):
    define(store)
    on_model_trained(trained(), meta(), store)
    base = Task.model_validate(job(store).spec).base.model
    on_evaluated(store, job(store), outcome(base).model_dump(mode="json"))
    on_model_trained(trained("run-2"), meta(), store)
    known = Task.model_validate(job(store, "run-2").spec).predictions
    assert known == (PredictionsRef(model=base, settings="greedy", file=FILE),)


def test_predictions_that_no_evaluation_wanted_for_long_are_pruned(store: SqlStore):
    define(store)
    on_model_trained(trained(), meta(), store)
    base = Task.model_validate(job(store).spec).base.model
    for model in (base, "m" * 64):
        on_evaluated(store, job(store), outcome(model).model_dump(mode="json"))
    rule, _ = horizons(EvaluatorSettings(predictions_days=90).predictions_retention)
    store.session.flush()
    connection, now = store.session.connection(), datetime.now(UTC)
    connection.execute(update(rule.table).values(used_at=now - timedelta(days=60)))
    on_model_trained(trained("run-2"), meta(now), store)
    assert prune(connection, rule, now + timedelta(days=20)) == 0
    assert prune(connection, rule, now + timedelta(days=40)) == 1
    assert connection.execute(select(rule.table.c.model)).scalars().all() == [base]
    assert prune(connection, rule, now + timedelta(days=100)) == 1


def test_a_failure_is_kept_and_told_with_its_cause(store: SqlStore):
    define(store)
    on_model_trained(trained(), meta(), store)
    (event,) = on_failed(store, job(store), Failure("out_of_memory", "killed"))
    told = {"cause": "out_of_memory", "detail": "killed", "evaluation_id": "eval-run-1"}
    assert event == EvaluationFailedV1(project=PROJECT, run_id="run-1", **told)
    evaluation = store.evaluation("eval-run-1")
    assert evaluation is not None
    assert (evaluation.status, evaluation.cause, evaluation.detail) == ("failed", "out_of_memory", "killed")


def test_evaluations_come_in_pages_newest_first(store: SqlStore):
    define(store)
    for minute, run_id in ((1, "a"), (2, "b"), (2, "c"), (0, "d")):
        on_model_trained(trained(run_id), meta(START + timedelta(minutes=minute)), store)
    everything = store.evaluations(PROJECT, 10)
    assert [e.run_id for e in everything] == ["c", "b", "a", "d"]
    place = (everything[1].created_at, everything[1].evaluation_id)
    assert store.evaluations(None, 1, place) == [everything[2]]
    assert store.evaluations("another", 10) == []


def leased(store: SqlStore) -> Job:
    found = store.jobs.lease(KIND, "me", START, 20)
    assert found is not None
    return found


@pytest.mark.parametrize("ended", ["failed", "done"])
def test_an_evaluation_is_measured_again_after_its_end(store: SqlStore, ended: str):
    define(store)
    on_model_trained(trained(), meta(), store)
    with pytest.raises(ApiError, match="is queued already") as early:
        retried(store, "eval-run-1", ANYBODY)
    assert early.value.status == 409
    first = leased(store)
    if ended == "done":
        list(on_evaluated(store, first, outcome().model_dump(mode="json")))
        assert store.jobs.finish(first, START, "done")
    else:
        failure = Failure("store_unavailable", "no answer")
        assert store.jobs.finish(first, START, "failed", failure)
        list(on_failed(store, first, failure))
    shown = retried(store, "eval-run-1", ANYBODY)
    assert (shown["status"], shown["last_error"]) == ("queued", None)
    (event,) = on_evaluated(store, leased(store), outcome().model_dump(mode="json"))
    assert isinstance(event, ModelScoredV1)
    evaluation = store.evaluation("eval-run-1")
    assert evaluation is not None
    assert (evaluation.status, evaluation.cause, evaluation.detail) == ("done", None, None)
    with pytest.raises(ApiError, match="no evaluation 'eval-x'"):
        retried(store, "eval-x", ANYBODY)


def test_evaluations_of_a_project_taken_out_of_service_end(store: SqlStore):
    define(store)
    on_model_trained(trained(), meta(), store)
    known = store.projects.current(PROJECT)
    assert known is not None
    event = ProjectDefinedV1(project=PROJECT, revision=known[0], spec=known[1], retired_after=3)
    assert list(on_project_defined(event, meta(START + timedelta(hours=1)), store)) == []
    assert job(store).cancel


def test_a_model_that_comes_after_its_project_was_taken_out_of_service_is_not_measured(store: SqlStore):
    define(store)
    on_model_trained(trained("run-2"), meta(), store)
    known = store.projects.current(PROJECT)
    assert known is not None
    event = ProjectDefinedV1(project=PROJECT, revision=known[0], spec=known[1], retired_after=3, sequence=1)
    on_project_defined(event, meta(START + timedelta(hours=1)), store)
    (late,) = on_model_trained(trained(), meta(), store)
    assert isinstance(late, EvaluationFailedV1)
    assert (late.run_id, late.cause, late.evaluation_id) == ("run-1", "project_retired", "eval-run-1")
    assert store.evaluation("eval-run-1") is None
    with pytest.raises(ApiError, match="out of service") as refused:
        retried(store, "eval-run-2", ANYBODY)
    assert (refused.value.status, refused.value.code) == (409, "project_retired")
