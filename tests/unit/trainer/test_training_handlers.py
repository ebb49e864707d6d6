"""What the trainer's service does around a job, on SQLite and PostgreSQL."""

from collections.abc import Generator, Iterator
from contextlib import contextmanager
from datetime import UTC, datetime, timedelta
from pathlib import Path
from typing import Any

import pytest
from sqlalchemy import Engine
from sqlmodel import Session

from contracts.envelope import Event, new_meta
from contracts.events.prep import DatasetFrozenV1
from contracts.events.registry import ProjectDefinedV1
from contracts.events.trainer import ModelTrainedV1, RunFailedV1, RunProgressedV1
from contracts.project import ProjectSpec
from contracts.types import ArtifactRef, DatasetRef
from services.chassis.errors import Park
from services.chassis.http.application import ApiError
from services.chassis.http.guard import Caller
from services.chassis.jobs.job import Job
from services.chassis.jobs.queue import Failure
from services.chassis.storage.database import open_engine, writing
from services.chassis.storage.migration import migrate
from services.trainer import handlers, http, restore
from services.trainer.domain.run_state import superseded
from services.trainer.settings import TrainerSettings
from services.trainer.store import SqlStore

NOW = datetime(2026, 1, 31, 12, tzinfo=UTC)
ANYBODY = Caller("anybody", frozenset())
MIGRATIONS = Path(handlers.__file__).parent / "migrations"
REF = ArtifactRef(uri="file:///a/sha256/aa/b", sha256="a" * 64, bytes=1)
PROGRESS: dict[str, Any] = {
    "step": 3,
    "total_steps": 9,
    "epoch": 1.0,
    "loss": 2.5,
    "validation_loss": None,
    "learning_rate": 1e-3,
    "tokens": 300,
    "tokens_per_second": 100.0,
    "eta_seconds": 6.0,
    "started_at": NOW.isoformat(),
    "stage": "training",
    "final": False,
}
RESULT: dict[str, Any] = {
    "base": {"name": "b", "digest": "d" * 64, "files": {"config.json": REF.model_dump()}},
    "kind": "lora",
    "files": {"adapter_model.safetensors": REF.model_dump()},
    "weights": "a" * 64,
    "code": "c" * 64,
    "environment": "e" * 64,
    "figures": {"train_loss": 1.5},
    "left_out": {"template_refused": 2},
}


@pytest.fixture
def engine(database_url: str, tmp_path: Path) -> Iterator[Engine]:
    engine = open_engine(TrainerSettings(home=tmp_path, database=database_url))
    migrate(engine, "trainer", MIGRATIONS)
    yield engine
    engine.dispose()


@contextmanager
def opened(engine: Engine) -> Generator[SqlStore]:
    with writing(engine) as connection, Session(connection, expire_on_commit=False) as session:
        yield SqlStore(session)
        session.flush()


def defined(revision: str = "1" * 64, **train: Any) -> ProjectDefinedV1:
    spec = ProjectSpec.model_validate({"project": "p", "base": "b", "train": train})
    return ProjectDefinedV1(project="p", revision=revision, spec=spec)


def frozen(number: int = 1, revision: str = "1" * 64) -> DatasetFrozenV1:
    dataset = DatasetRef(project="p", version=f"{number:064x}", number=number, files={"train": REF})
    return DatasetFrozenV1(
        project="p",
        project_revision=revision,
        dataset=dataset,
        counts={"train": 1},
        drops={},
        cause="policy",
        profile=REF,
        report=REF,
    )


def arrive(engine: Engine, *events: Event, at: datetime = NOW) -> list[Event]:
    emitted: list[Event] = []
    with opened(engine) as store:
        for event in events:
            meta = new_meta(event, "urn:x", "1", time=at)
            emitted += handlers.HANDLERS[type(event)](event, meta, store)
    return emitted


def job_of(store: SqlStore, run_id: str) -> Job:
    job = store.jobs.get(run_id)
    assert job is not None
    return job


def only_run(engine: Engine) -> str:
    with opened(engine) as store:
        (run,) = store.runs("p", 10)
        return run.run_id


def test_a_dataset_is_trained_on_once_for_each_revision_of_its_project(engine: Engine) -> None:
    arrive(engine, defined(epochs=2), frozen(), frozen())
    run_id = only_run(engine)
    with opened(engine) as store:
        spec = job_of(store, run_id).spec
    assert (spec["recipe"]["epochs"], spec["base"]) == (2, "b")
    arrive(engine, defined("2" * 64, epochs=5), frozen(revision="2" * 64), at=NOW + timedelta(hours=1))
    with opened(engine) as store:
        newest, oldest = store.runs("p", 10)
        assert oldest.run_id == run_id
        assert job_of(store, newest.run_id).spec["recipe"]["epochs"] == 5


def prompted(revision: str, system: str | None, **sections: Any) -> ProjectDefinedV1:
    spec = ProjectSpec.model_validate({"project": "p", "base": "b", "prompt": {"system": system}, **sections})
    return ProjectDefinedV1(project="p", revision=revision, spec=spec)


def test_a_changed_prompt_alone_starts_no_run(engine: Engine) -> None:
    arrive(engine, prompted("1" * 64, None), frozen())
    arrive(
        engine,
        prompted("2" * 64, "New.", serve={"max_tokens": 9}),
        frozen(revision="2" * 64),
        at=NOW + timedelta(hours=1),
    )
    with opened(engine) as store:
        assert [run.project_revision for run in store.runs("p", 10)] == ["1" * 64]
    arrive(engine, frozen(2, "2" * 64), at=NOW + timedelta(hours=2))
    with opened(engine) as store:
        assert store.runs("p", 10)[0].dataset.number == 2


@pytest.mark.parametrize("further", [{"train": {"seed": 8}}, {"prep": {"held_out": 0.3}}, {"base": "other"}])
def test_a_prompt_that_changed_with_the_recipe_starts_one(engine: Engine, further: dict[str, Any]) -> None:
    arrive(engine, prompted("1" * 64, None), frozen())
    arrive(engine, prompted("2" * 64, "New.", **further), frozen(revision="2" * 64), at=NOW + timedelta(hours=1))
    with opened(engine) as store:
        assert store.runs("p", 10)[0].project_revision == "2" * 64


def test_a_changed_prompt_starts_a_run_where_the_first_one_failed(engine: Engine) -> None:
    arrive(engine, prompted("1" * 64, "Nothing that the base takes."), frozen())
    with opened(engine) as store:
        run = store.runs("p", 1)[0]
        store.keep(run.model_copy(update={"status": "failed", "cause": "bad_recipe", "detail": "x"}))
    arrive(engine, prompted("2" * 64, None), frozen(revision="2" * 64), at=NOW + timedelta(hours=1))
    with opened(engine) as store:
        assert {run.project_revision for run in store.runs("p", 10)} == {"1" * 64, "2" * 64}


def test_a_dataset_of_an_unknown_revision_waits(engine: Engine) -> None:
    with pytest.raises(Park, match="has not arrived yet"):
        arrive(engine, frozen())


def test_progress_and_result_become_events(engine: Engine) -> None:
    arrive(engine, defined(), frozen())
    run_id = only_run(engine)
    with opened(engine) as store:
        job = job_of(store, run_id)
        assert list(handlers.on_progress(store, job, {"stage": "preparing", "started_at": NOW.isoformat()})) == []
        (told,) = handlers.on_progress(store, job, PROGRESS)
        (model,) = handlers.on_trained(store, job, RESULT)
    assert isinstance(told, RunProgressedV1)
    assert (told.step, told.run_id) == (3, run_id)
    assert isinstance(model, ModelTrainedV1)
    assert (model.run_id, model.project_revision, model.dataset.number) == (run_id, "1" * 64, 1)
    with opened(engine) as store:
        shown = http.shown(store, run_id, ANYBODY)
    assert (model.left_out, shown["left_out"]) == ({"template_refused": 2}, {"template_refused": 2})
    assert (shown["status"], shown["started_at"], shown["figures"]) == ("done", NOW.isoformat(), {"train_loss": 1.5})


@pytest.mark.parametrize(("code", "status"), [("out_of_memory", "failed"), ("cancelled", "cancelled")])
def test_a_failure_says_its_cause(engine: Engine, code: str, status: str) -> None:
    arrive(engine, defined(), frozen())
    run_id = only_run(engine)
    with opened(engine) as store:
        event = fail(store, run_id, Failure(code, "why"), status)
        shown = http.shown(store, run_id, ANYBODY)
    assert isinstance(event, RunFailedV1)
    assert (event.cause, event.detail, event.dataset.number) == (code, "why", 1)
    assert (shown["status"], shown["cause"], shown["detail"]) == (status, code, "why")


def test_a_waiting_run_can_be_cancelled_once_known(engine: Engine) -> None:
    arrive(engine, defined(), frozen())
    run_id = only_run(engine)
    with opened(engine) as store:
        shown, (event,) = http.cancelled(store, run_id, ANYBODY)
        assert (shown["status"], shown["cause"]) == ("cancelled", "cancelled")
        assert isinstance(event, RunFailedV1)
        with pytest.raises(ApiError) as unknown:
            http.cancelled(store, "nothing", ANYBODY)
    assert unknown.value.status == 404


def test_a_running_run_is_asked_to_end(engine: Engine) -> None:
    arrive(engine, defined(), frozen())
    run_id = only_run(engine)
    with opened(engine) as store:
        assert leased(store).id == run_id
        shown, events = http.cancelled(store, run_id, ANYBODY)
        assert (shown["status"], list(events), job_of(store, run_id).cancel) == ("running", [], True)


@pytest.mark.parametrize(("code", "status"), [("store_unavailable", "failed"), ("cancelled", "cancelled")])
def test_a_failed_or_cancelled_run_is_retried_from_its_checkpoint(engine: Engine, code: str, status: str) -> None:
    arrive(engine, defined(), frozen())
    run_id = only_run(engine)
    checkpoint = {"step": 3, "files": {"x": REF.model_dump()}}
    with opened(engine) as store:
        assert store.jobs.heartbeat(leased(store), NOW, 20, None, checkpoint)
        fail(store, run_id, Failure(code, "why"), status)
        shown = http.retried(store, run_id, ANYBODY)
        assert (shown["status"], shown["cause"], shown["last_error"]) == ("queued", None, None)
        again = leased(store)
        assert (again.id, again.checkpoint, again.cancel) == (run_id, checkpoint, False)
        assert http.shown(store, run_id, ANYBODY)["status"] == "running"
        (model,) = handlers.on_trained(store, again, RESULT)
        assert isinstance(model, ModelTrainedV1)
        assert store.jobs.finish(again, NOW, "done")
        shown = http.shown(store, run_id, ANYBODY)
    assert (shown["status"], shown["cause"], shown["detail"]) == ("done", None, None)


def test_what_cannot_be_retried_is_refused_with_the_reason(engine: Engine) -> None:
    arrive(engine, defined(), frozen())
    run_id = only_run(engine)
    with opened(engine) as store:
        with pytest.raises(ApiError, match="is queued already"):
            http.retried(store, run_id, ANYBODY)
        job = leased(store)
        with pytest.raises(ApiError, match="is running already"):
            http.retried(store, run_id, ANYBODY)
        list(handlers.on_trained(store, job, RESULT))
        assert store.jobs.finish(job, NOW, "done")
        with pytest.raises(ApiError, match="done and its model stands") as done:
            http.retried(store, run_id, ANYBODY)
        with pytest.raises(ApiError, match="no run 'nothing'"):
            http.retried(store, "nothing", ANYBODY)
    assert (done.value.status, done.value.code) == (409, "run_is_done")


def test_a_run_that_waits_for_its_next_try_says_so_and_can_be_hastened(engine: Engine) -> None:
    arrive(engine, defined(), frozen())
    run_id = only_run(engine)
    at = NOW + timedelta(minutes=5)
    with opened(engine) as store:
        failure = Failure("store_unavailable", "no answer")
        assert store.jobs.retry_later(leased(store), failure, at, failures=1, crashes=0)
        shown = http.shown(store, run_id, ANYBODY)
        assert (shown["status"], shown["attempt"], shown["retry_at"]) == ("queued", 1, at.isoformat())
        assert shown["last_error"] == {"code": "store_unavailable", "detail": "no answer"}
        assert http.retried(store, run_id, ANYBODY)["retry_at"] is None
        assert leased(store).attempts == 2


def leased(store: SqlStore) -> Job:
    job = store.jobs.lease(handlers.KIND, "me", NOW, 20)
    assert job is not None
    return job


def fail(store: SqlStore, run_id: str, failure: Failure, status: str) -> Event:
    """Ends the run's job as its worker does."""
    job = job_of(store, run_id) if job_of(store, run_id).status == "running" else leased(store)
    assert store.jobs.finish(job, NOW, status, failure)
    (event,) = handlers.on_failed(store, job, failure)
    return event


def test_pages_follow_time(engine: Engine) -> None:
    arrive(engine, defined())
    for number in range(1, 6):
        arrive(engine, frozen(number), at=NOW + timedelta(minutes=number))
    with opened(engine) as store:
        first = store.runs(None, 2)
        rest = store.runs(None, 10, (first[-1].created_at, first[-1].run_id))
    assert [run.dataset.number for run in [*first, *rest]] == [5, 4, 3, 2, 1]


OURS = {"project", "project_revision", "run_id", "dataset"}


def by_number_of(store: SqlStore) -> dict[int, dict[str, Any]]:
    return {run.dataset.number: http.view(run, store.jobs.get(run.run_id)) for run in store.runs("p", 10)}


def by_number(engine: Engine) -> dict[int, dict[str, Any]]:
    with opened(engine) as store:
        return by_number_of(store)


def test_a_stream_that_freezes_faster_than_it_trains_has_one_run_waiting(engine: Engine) -> None:
    assert arrive(engine, defined(), frozen(1)) == []
    with opened(engine) as store:
        assert store.jobs.lease(handlers.KIND, "me", NOW, 20) is not None
    assert arrive(engine, frozen(2)) == []
    (told,) = arrive(engine, frozen(3))
    shown = by_number(engine)
    assert [shown[n]["status"] for n in (1, 2, 3)] == ["running", "superseded", "queued"]
    assert shown[2]["successor"] == shown[3]["run_id"]
    assert shown[2]["finished_at"] is not None
    assert isinstance(told, RunFailedV1)
    assert (told.run_id, told.cause, told.successor) == (shown[2]["run_id"], "superseded", shown[3]["run_id"])
    assert arrive(engine, frozen(3), frozen(2)) == []
    with opened(engine) as store:
        assert store.jobs.lease(handlers.KIND, "me", NOW, 20).id == shown[3]["run_id"]  # pyright: ignore[reportOptionalMemberAccess]
        assert store.jobs.lease(handlers.KIND, "me", NOW, 20) is None


def test_a_run_that_a_person_queued_anew_or_that_has_begun_is_not_superseded(engine: Engine) -> None:
    arrive(engine, defined(), frozen(1), frozen(2))
    retried, begun = by_number(engine)[1]["run_id"], by_number(engine)[2]["run_id"]
    with opened(engine) as store:
        job = store.jobs.lease(handlers.KIND, "me", NOW, 20)
        assert job is not None
        assert job.id == begun
        assert store.jobs.give_back(job)
        assert store.jobs.restart(retried)
    assert arrive(engine, frozen(3)) == []
    with opened(engine) as store:
        waiting = [store.jobs.get(id).status for id in (retried, begun)]  # pyright: ignore[reportOptionalMemberAccess]
    assert waiting == ["queued", "queued"]


def test_an_older_dataset_that_comes_late_supersedes_nothing_and_projects_do_not_meet(engine: Engine) -> None:
    arrive(engine, defined(), frozen(5))
    assert arrive(engine, frozen(4)) == []
    other = frozen(9).model_copy(update={"project": "q", "spec": defined().spec})
    assert arrive(engine, other) == []
    assert {run["status"] for run in by_number(engine).values()} == {"queued"}


def test_replay_finds_again_how_runs_ended(engine: Engine) -> None:
    arrive(engine, defined(), frozen(1), frozen(2))
    with opened(engine) as store:
        first, second = (by["run_id"] for _, by in sorted(by_number_of(store).items()))
        run, last = store.run(first), store.run(second)
        assert run is not None
        assert last is not None
        trained = ModelTrainedV1.model_validate({**RESULT, **last.model_dump(include=OURS)})
        failed = superseded(last, run)[1]
        meta = new_meta(trained, "urn:x", "1", time=NOW)
        list(restore.on_run_failed(failed, meta, store))
        list(restore.on_model_trained(trained.model_copy(update={"run_id": first}), meta, store))
        run, last = store.run(first), store.run(second)
        assert run is not None
        assert last is not None
    assert (run.status, run.successor, run.cause) == ("done", None, None)
    assert (last.status, last.successor) == ("superseded", first)


def test_replay_lets_a_newer_dataset_end_no_run_that_has_ended(engine: Engine) -> None:
    """In the log's order: a run ended before the next dataset was frozen. The jobs of a rebuilding never begin."""
    arrive(engine, defined(), frozen(1))
    with opened(engine) as store:
        (first,) = store.runs("p", 10)
        trained = ModelTrainedV1.model_validate({**RESULT, **first.model_dump(include=OURS)})
        list(restore.on_model_trained(trained, new_meta(trained, "urn:x", "1", time=NOW), store))
    assert arrive(engine, frozen(2)) == []
    assert [by_number(engine)[n]["status"] for n in (1, 2)] == ["done", "queued"]


def test_training_of_a_project_taken_out_of_service_ends_and_begins_again_with_it(engine: Engine) -> None:
    arrive(engine, defined(), frozen())
    run_id = only_run(engine)
    arrive(engine, defined().model_copy(update={"retired_after": 0, "sequence": 1}), at=NOW + timedelta(hours=1))
    with opened(engine) as store:
        assert job_of(store, run_id).cancel
    arrive(engine, frozen(2))
    assert only_run(engine) == run_id
    arrive(engine, defined().model_copy(update={"sequence": 2}), frozen(3), at=NOW + timedelta(hours=2))
    with opened(engine) as store:
        assert len(store.runs("p", 10)) == 2


def test_a_run_of_a_project_taken_out_of_service_is_not_retried(engine: Engine) -> None:
    arrive(engine, defined(), frozen())
    with opened(engine) as store:
        fail(store, (run := leased(store).id), Failure("cancelled", "x"), "cancelled")
    arrive(engine, defined().model_copy(update={"retired_after": 0, "sequence": 1}))
    with opened(engine) as store, pytest.raises(ApiError, match="out of service") as refused:
        http.retried(store, run, ANYBODY)
    assert (refused.value.status, refused.value.code) == (409, "project_retired")


def test_a_superseded_run_that_a_person_retries_is_trained_beside_its_successor(engine: Engine) -> None:
    arrive(engine, defined(), frozen(1))
    with opened(engine) as store:
        first = leased(store).id
        assert first
    arrive(engine, frozen(2), frozen(3))
    old = by_number(engine)[2]
    assert (old["status"], old["successor"]) == ("superseded", by_number(engine)[3]["run_id"])
    with opened(engine) as store:
        shown = http.retried(store, old["run_id"], ANYBODY)
    assert (shown["status"], shown["cause"], shown["successor"]) == ("queued", None, None)
    assert by_number(engine)[3]["status"] == "queued"
    arrive(engine, frozen(4))
    assert [by_number(engine)[n]["status"] for n in (2, 3, 4)] == ["queued", "superseded", "queued"]
    with opened(engine) as store:
        store.jobs.finish(job_of(store, first), NOW, "failed", Failure("x", "x"))
        job = leased(store)
        assert job.id == old["run_id"]
        (event,) = handlers.on_trained(store, job, RESULT)
        assert store.jobs.finish(job, NOW, "done")
    assert isinstance(event, ModelTrainedV1)
    assert (by_number(engine)[2]["status"], by_number(engine)[2]["successor"]) == ("done", None)
