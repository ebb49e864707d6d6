"""Projects change in the order of their sequence; a revision that an event brings along is known, and in force nowhere."""

from dataclasses import dataclass, replace
from datetime import UTC, datetime, timedelta
from pathlib import Path

import pytest
from sqlalchemy import Engine
from sqlmodel import Session

from contracts.events.registry import ProjectDefinedV1
from contracts.project import ProjectSpec
from services.chassis.errors import Park
from services.chassis.replay.difference import differences
from services.chassis.replay.restore import Restore
from services.chassis.storage.database import open_sqlite, writing
from services.chassis.storage.migration import migrate
from services.chassis.storage.projects import ProjectRevisions, specification
from services.chassis.storage.store import ChassisStore

NOON = datetime(2026, 1, 1, 12, tzinfo=UTC)


@dataclass(frozen=True)
class Named:
    """An event that names a revision."""

    project: str
    project_revision: str
    spec: ProjectSpec | None = None


def spec(base: str) -> ProjectSpec:
    return ProjectSpec.model_validate({"project": "p", "base": base})


def defined(base: str, sequence: int | None = None) -> ProjectDefinedV1:
    return ProjectDefinedV1(project="p", revision=base * 64, spec=spec(base), sequence=sequence)


def remember(engine: Engine, *events: tuple[ProjectDefinedV1, datetime]) -> str | None:
    """Takes the events; the base of the revision in force then."""
    with writing(engine) as connection, Session(connection) as session:
        projects = ProjectRevisions(session)
        for event, at in events:
            projects.remember(event, at)
        session.flush()
        current = projects.current("p")
        return current[1].base if current else None


def test_sequence_decides_where_the_clock_went_backward(engine: Engine) -> None:
    earlier = NOON - timedelta(days=3)
    assert remember(engine, (defined("a", 5), NOON), (defined("b", 6), earlier)) == "b"
    assert remember(engine, (defined("a", 7), earlier - timedelta(days=1))) == "a"


def test_definition_that_comes_late_changes_nothing(engine: Engine) -> None:
    assert remember(engine, (defined("a", 5), NOON), (defined("b", 6), NOON), (defined("a", 7), NOON)) == "a"
    assert remember(engine, (defined("a", 5), NOON + timedelta(days=1))) == "a"
    assert remember(engine, (defined("b", 6), NOON + timedelta(days=1))) == "a"


def test_definitions_without_a_sequence_go_by_time_and_behind_those_with_one(engine: Engine) -> None:
    assert remember(engine, (defined("a"), NOON), (defined("b"), NOON + timedelta(seconds=1))) == "b"
    assert remember(engine, (defined("a"), NOON + timedelta(seconds=2))) == "a"
    assert remember(engine, (defined("b"), NOON)) == "a"
    assert remember(engine, (defined("c", 1), NOON - timedelta(days=1))) == "c"
    assert remember(engine, (defined("a"), NOON + timedelta(days=1))) == "c"


def test_sequence_grows_whatever_the_clock_says_and_a_restored_registry_gives_none_twice(engine: Engine) -> None:
    with writing(engine) as connection, Session(connection) as session:
        projects = ProjectRevisions(session)
        first = projects.next_sequence("p", NOON)
        projects.remember(defined("a", first), NOON)
        before = projects.next_sequence("p", NOON - timedelta(days=400))
        assert before == first + 1
        assert projects.next_sequence("other", NOON + timedelta(minutes=1)) > before


def test_revision_that_an_event_brings_is_known_but_not_in_force(engine: Engine) -> None:
    with writing(engine) as connection, Session(connection) as session:
        store, bare = ChassisStore(session), Named("p", "a" * 64)
        with pytest.raises(Park, match="has not arrived"):
            specification(bare, store)
        assert specification(replace(bare, spec=spec("a")), store) == spec("a")
        assert specification(bare, store) == spec("a")
        assert store.projects.current("p") is None
        assert store.projects.names() == []
        store.projects.remember(defined("b", 2), NOON)
        assert specification(replace(bare, spec=spec("c")), store) == spec("a")
        current = store.projects.current("p")
        assert current is not None
        assert current[1].base == "b"
        store.projects.remember(defined("a", 3), NOON)
        assert store.projects.names() == ["p"]


def test_replay_compares_what_compaction_left(tmp_path: Path) -> None:
    live, rebuilt = (open_sqlite(f"sqlite:///{tmp_path / name}", "OFF") for name in ("live.db", "rebuilt.db"))
    for engine in (live, rebuilt):
        migrate(engine, "noria")
    remember(live, (defined("a", 1), NOON), (defined("b", 2), NOON), (defined("c", 3), NOON))
    remember(rebuilt, (defined("c", 3), NOON))
    with writing(rebuilt) as connection, Session(connection) as session:
        ProjectRevisions(session).learn("p", "b" * 64, spec("b"))
    assert differences(live, rebuilt, Restore()) == []
    with writing(rebuilt) as connection:
        connection.exec_driver_sql("UPDATE project_revision SET spec = 'other' WHERE defined_at IS NULL")
    assert [found.column for found in differences(live, rebuilt, Restore())] == ["spec"]
    with writing(rebuilt) as connection:
        connection.exec_driver_sql("DELETE FROM project_revision")
    assert [found.key for found in differences(live, rebuilt, Restore())] == [f"p/{'c' * 64}"]
    for engine in (live, rebuilt):
        engine.dispose()
