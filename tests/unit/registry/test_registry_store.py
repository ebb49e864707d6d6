from datetime import timedelta

from services.registry.handlers import on_model_trained
from services.registry.projects import define as define_project
from services.registry.projects import view
from services.registry.store import SqlStore
from tests.unit.registry.builders import PROJECT, START, define, meta, scored, trained


def test_pages_go_from_the_newest_to_the_oldest_without_a_gap(store: SqlStore):
    revision = define(store)
    for minute in (1, 3, 2, 3):
        run_id = f"run-{minute}-{store.next_version(PROJECT)}"
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
