"""A revision of a project that compaction took from its topic reaches every service by the events that need it."""

from collections.abc import Callable, Generator
from contextlib import AbstractContextManager, contextmanager
from datetime import UTC, datetime
from importlib import import_module
from pathlib import Path
from typing import Any

import pytest
from sqlmodel import Session

from contracts.envelope import Event, Meta
from contracts.events.prep import DatasetFrozenV1
from contracts.events.registry import ModelPromotedV1, ProjectDefinedV1
from contracts.project import ProjectSpec
from services.chassis.storage.database import open_sqlite, writing
from services.chassis.storage.migration import migrate
from services.evaluator import handlers as evaluator
from services.prep import handlers as prep
from services.registry import handlers as registry
from services.serving import handlers as serving
from services.trainer import handlers as trainer

NOW = datetime(2026, 1, 1, tzinfo=UTC)
REF = {"uri": "file:///a/sha256/aa/b", "sha256": "a" * 64, "bytes": 1}
OLD, NEW = "1" * 64, "2" * 64
Open = Callable[[str], AbstractContextManager[Any]]


@pytest.fixture
def store(tmp_path: Path) -> Open:
    """Gives a service's store in a transaction of its own, each service in a database of its own."""

    @contextmanager
    def opened(service: str) -> Generator[Any]:
        engine = open_sqlite(f"sqlite:///{tmp_path / service}.db", synchronous="OFF")
        migrate(engine, service, Path("services") / service / "migrations")
        with writing(engine) as connection, Session(connection, expire_on_commit=False) as session:
            yield import_module(f"services.{service}.store").SqlStore(session)
            session.flush()
        engine.dispose()

    return opened


def defined(revision: str, sequence: int, **sections: Any) -> ProjectDefinedV1:
    spec = ProjectSpec.model_validate({"project": "p", "base": "b", **sections})
    return ProjectDefinedV1(project="p", revision=revision, spec=spec, sequence=sequence)


def handle(module: Any, store: Any, event: Event) -> list[Any]:
    meta = Meta(id="1", source="/noria/test", type="test", time=NOW)
    return list(module.HANDLERS[type(event)](event, meta, store))


def frozen(store: Open) -> DatasetFrozenV1:
    """Prep freezes a dataset under the old revision, while a new one has come."""
    old = defined(OLD, 1, prompt={"system": "old"}, train={"epochs": 7}, gate={"require": ["chrf > 1"]})
    with store("prep") as own:
        handle(prep, own, old)
        job = prep.ask(own.progress("p"), {}, OLD, "on_demand", own)
        handle(prep, own, defined(NEW, 2))
        files = dict.fromkeys(("train", "validation", "held_out"), REF)
        counts = dict.fromkeys(files, 9)
        result = {
            "version": "d" * 64,
            "through": {"0": 1},
            "files": files,
            "counts": counts,
            "drops": {},
            "profile": REF,
        }
        result |= {"report": REF, "frozen_at": NOW.isoformat()}
        (event,) = prep.on_freeze_done(own, own.jobs.get(job), result)
    assert isinstance(event, DatasetFrozenV1)
    return event


def test_services_that_saw_only_the_newest_definition_go_on_with_the_old_one(store: Open) -> None:
    event = frozen(store)
    with store("trainer") as own:
        handle(trainer, own, defined(NEW, 2))
        handle(trainer, own, event)
        (run,) = own.runs("p", 10)
        job = own.jobs.get(run.run_id)
        assert job.spec["recipe"]["epochs"] == 7
        base = {"name": "b", "digest": "d" * 64, "files": {"config.json": REF}}
        digests = {"weights": "a" * 64, "code": "c" * 64, "environment": "e" * 64}
        result = {"base": base, "kind": "lora", "files": {"adapter": REF}, **digests, "figures": {"steps": 1.0}}
        (trained,) = trainer.on_trained(own, job, result)
    with store("evaluator") as own:
        handle(evaluator, own, defined(NEW, 2))
        handle(evaluator, own, trained)
        (evaluation,) = own.evaluations("p", 10)
        job = own.jobs.get(evaluation.evaluation_id)
        assert "old" in str(job.spec)
        metric = {"value": 46, "low": 41, "high": 51, "n": 91}
        metrics = {key: {"chrf": metric} for key in ("metrics", "champion_metrics", "base_metrics", "differences")}
        (scored,) = evaluator.on_evaluated(own, job, {**metrics, "results": REF, "examples": 91})
    with store("registry") as own:
        handle(registry, own, trained)
        (promoted,) = handle(registry, own, scored)
    assert isinstance(promoted, ModelPromotedV1)
    with store("serving") as own:
        handle(serving, own, defined(NEW, 2, serve={"max_tokens": 5}))
        handle(serving, own, promoted)
        (served,) = own.live_versions()
    assert served.prompt.system == "old"
    assert served.serve.max_tokens == 5
