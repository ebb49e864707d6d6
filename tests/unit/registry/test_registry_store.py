import asyncio
from datetime import timedelta
from pathlib import Path
from typing import Any

import pytest

from contracts.events.registry import ProjectDefinedV1
from services.chassis.context import Context
from services.chassis.http.application import ApiError
from services.chassis.observability.metrics import Metrics
from services.chassis.storage.artifacts import open_store
from services.chassis.storage.database import open_engine
from services.chassis.storage.migration import migrate
from services.registry.handlers import on_model_trained
from services.registry.projects import define as define_project
from services.registry.projects import view
from services.registry.settings import RegistrySettings
from services.registry.store import SqlStore
from tests.unit.registry.builders import PROJECT, START, define, meta, scored, trained
from tests.unit.registry.conftest import MIGRATIONS


def test_pages_go_from_the_newest_to_the_oldest_without_a_gap(store: SqlStore):
    revision = define(store)
    for number, minute in enumerate((1, 3, 2, 3), 1):
        run_id = f"run-{minute}-{number}"
        on_model_trained(trained(run_id, revision), meta(run_id, START + timedelta(minutes=minute)), store)
    everything = store.versions(None, 10)
    assert [v.trained.run_id for v in everything] == ["run-3-4", "run-3-2", "run-2-3", "run-1-1"]
    place = (everything[1].created_at, everything[1].trained.run_id)
    assert store.versions(PROJECT, 10, place) == everything[2:]
    assert store.versions("another", 10) == []


def test_a_version_comes_back_as_it_was_kept(store: SqlStore):
    revision = define(store)
    on_model_trained(trained("run-a", revision), meta(), store)
    version = store.of_run("run-a")
    assert version is not None
    assert version.trained == trained("run-a", revision)
    assert version.created_at == START
    assert version.scored is None
    from dataclasses import replace

    store.keep(replace(version, scored=scored("run-a", revision, 3.5), failed=("a", "b")))
    again = store.version(PROJECT, 1)
    assert again is not None
    assert again.scored == scored("run-a", revision, 3.5)
    assert again.failed == ("a", "b")


def test_candidates_of_a_retired_project_wait_for_nobody(store: SqlStore):
    revision = define(store)
    on_model_trained(trained("run-a", revision), meta(), store)
    store.lock(PROJECT)
    assert store.open_candidates() == {"pending": 1}
    store.retire(PROJECT, 0)
    assert store.open_candidates() == {}
    store.retire(PROJECT, None)
    assert store.open_candidates() == {"pending": 1}


def test_projects_keep_every_revision_and_tell_only_changes(store: SqlStore):
    first, events = define_project(store, {"project": "p", "base": "b"}, START)
    assert first["changed"] is True
    assert len(list(events)) == 1
    same, none = define_project(store, {"base": "b", "project": "p", "gate": {}}, START + timedelta(hours=1))
    assert (same, list(none)) == ({**first, "changed": False}, [])
    second, events = define_project(store, {"project": "p", "base": "c"}, START + timedelta(hours=2))
    assert second["revision"] != first["revision"]
    back, events = define_project(store, {"project": "p", "base": "b"}, START + timedelta(hours=3))
    assert (back["revision"], back["changed"], len(list(events))) == (first["revision"], True, 1)
    shown = view(store, "p")
    assert shown["revision"] == first["revision"]
    assert [r["revision"] for r in shown["revisions"]] == [first["revision"], second["revision"]]
    define_project(store, {"project": "a", "base": "b"}, START)
    assert store.project_names(5) == ["a", "p"]
    assert store.project_names(5, "a") == ["p"]


def test_a_definition_has_a_sequence_that_grows_where_the_clock_goes_backward(store: SqlStore):
    (first,) = define_project(store, {"project": "p", "base": "b"}, START)[1]
    (second,) = define_project(store, {"project": "p", "base": "c"}, START - timedelta(days=30))[1]
    assert isinstance(first, ProjectDefinedV1)
    assert isinstance(second, ProjectDefinedV1)
    assert second.sequence == (first.sequence or 0) + 1
    shown = view(store, "p")
    assert shown["spec"]["base"] == "c"
    assert [r["revision"] for r in shown["revisions"]] == [second.revision, first.revision]


def test_two_definitions_at_once_on_two_instances_have_sequences_in_the_order_of_their_effect(
    database_url: str, tmp_path: Path
):
    settings = RegistrySettings(home=tmp_path, database=database_url)
    instances = [
        Context(settings, open_engine(settings), SqlStore, open_store(settings), Metrics("registry")) for _ in range(2)
    ]
    migrate(instances[0].engine, "registry", MIGRATIONS)
    effects: list[tuple[int, str]] = []

    async def change(instance: Context[SqlStore], base: str) -> None:
        def write(store: SqlStore):
            answer, events = define_project(store, {"project": "p", "base": base}, START)
            told = [event for event in events if isinstance(event, ProjectDefinedV1)]
            effects.extend((event.sequence or 0, answer["revision"]) for event in told)
            return answer, events

        await instance.transact(write)

    async def at_once() -> None:
        await asyncio.gather(*(change(instances[n % 2], f"base{n}") for n in range(6)))

    asyncio.run(at_once())
    committed = dict(effects)  # a definition that met another one is done again, with a later sequence
    shown = instances[0].read_now(lambda store: view(store, "p"))
    assert len(shown["revisions"]) == 6
    assert [r["revision"] for r in reversed(shown["revisions"])] == [committed[n] for n in sorted(committed)][-6:]
    assert shown["revision"] == committed[max(committed)]
    for instance in instances:
        instance.engine.dispose()


def test_a_specification_too_long_to_travel_with_events_is_refused(store: SqlStore):
    modules = [f"{'m' * 1000}{n}" for n in range(140)]
    body: dict[str, Any] = {"project": "p", "base": "b", "train": {"adapter": {"target_modules": modules}}}
    with pytest.raises(ApiError, match="at most 131072"):
        define_project(store, body, START)
