from collections.abc import Callable
from datetime import timedelta
from typing import Any

import pytest

from contracts.events.prep import DatasetFrozenV1
from services.chassis.jobs.job import Job
from services.chassis.jobs.queue import Failure
from services.prep import handlers
from services.prep.domain.positions import Positions, total
from services.prep.segments import tail
from services.prep.tables import DatasetRow
from tests.unit.prep.builders import NOW, Events, Opened

Handle = Callable[[Any], None]
POLICY: dict[str, Any] = {"freeze": {"records": 3, "quiet": "5s"}}


def through(opened: Opened) -> Positions:
    """How far the project's changes have come."""
    with opened() as store:
        return store.positions("p")


def result(version: str, through: Positions) -> dict[str, Any]:
    ref = {"uri": "file:///x", "sha256": "1" * 64, "bytes": 1}
    files = dict.fromkeys(("train", "validation", "held_out"), ref)
    counts = {"train": 3, "validation": 0, "held_out": 0}
    return {
        "version": version * 64,
        "through": through,
        "files": files,
        "counts": counts,
        "drops": {"duplicate": 1},
        "profile": ref,
        "report": ref,
        "frozen_at": NOW.isoformat(),
    }


def tick(opened: Opened, seconds: float) -> str | None:
    """The job under way after a tick of the timer."""
    with opened() as store:
        assert not list(handlers.freeze_due(store, NOW + timedelta(seconds=seconds)))
        return store.progress("p").job


def finish(opened: Opened, job: str, outcome: dict[str, Any] | Failure) -> list[DatasetFrozenV1]:
    with opened() as store:
        found = store.jobs.get(job)
        assert isinstance(found, Job)
        if isinstance(outcome, Failure):
            return list(handlers.on_freeze_failed(store, found, outcome))  # pyright: ignore[reportReturnType]
        return list(handlers.on_freeze_done(store, found, outcome))  # pyright: ignore[reportReturnType]


@pytest.fixture
def three(handle: Handle, events: Events) -> None:
    handle([events.defined(**POLICY), *(events.accepted(f"r{i}", str(i)) for i in range(3))])


@pytest.mark.usefixtures("three")
def test_a_freeze_is_asked_for_once_enough_wait_and_it_is_quiet(opened: Opened) -> None:
    assert tick(opened, 0) is None
    assert tick(opened, 4) is None
    job = tick(opened, 5)
    assert job == "freeze-p-1"
    assert tick(opened, 60) == job
    with opened() as store:
        spec = store.jobs.get(job).spec  # pyright: ignore[reportOptionalMemberAccess]
    assert (spec["cause"], spec["newest"]) == ("policy", None)
    assert spec["positions"] == through(opened)
    assert total(spec["positions"]) == 3


@pytest.mark.usefixtures("three")
def test_a_new_record_begins_the_quiet_anew_and_twice_as_many_wait_for_none(
    opened: Opened, handle: Handle, events: Events
) -> None:
    tick(opened, 0)
    handle([events.accepted("r3", "3")])
    assert tick(opened, 6) is None
    handle([events.accepted("r4", "4"), events.accepted("r5", "5")])
    assert tick(opened, 7) is not None


def test_a_revision_replaces_the_record_and_counts_once(opened: Opened, handle: Handle, events: Events) -> None:
    handle([events.defined(**POLICY), events.accepted("r", "one"), events.accepted("r", "two", 2)])
    handle([events.accepted("r", "one", 1)])
    with opened() as store:
        [[record]] = tail(store.session.connection(), "p")
        assert (record.revision, "two" in record.record) == (2, True)
        assert (store.changed("p", {}), store.total("p"), total(store.positions("p"))) == (1, 1, 1)


@pytest.mark.usefixtures("three")
def test_a_finished_freeze_is_announced_and_the_same_version_is_not(
    opened: Opened, handle: Handle, events: Events
) -> None:
    tick(opened, 0)
    [frozen] = finish(opened, tick(opened, 5) or "", result("a", through(opened)))
    assert (frozen.dataset.number, frozen.dataset.version, frozen.cause) == (1, "a" * 64, "policy")
    assert set(frozen.dataset.files) == {"train", "validation", "held_out"}
    assert tick(opened, 100) is None

    handle([events.accepted(f"r{i}", f"{i} again", 2) for i in range(3)])
    tick(opened, 101)
    assert finish(opened, tick(opened, 106) or "", {"version": "a" * 64, "through": through(opened)}) == []
    handle([events.accepted(f"r{i}", f"{i} new", 3) for i in range(3)])
    tick(opened, 110)
    [second] = finish(opened, tick(opened, 115) or "", result("b", through(opened)))
    assert second.dataset.number == 2
    with opened() as store:
        assert [d.number for d in store.datasets("p", None, 10)] == [2, 1]
        assert [d.number for d in store.datasets(None, (NOW, "p", 2), 10)] == [1]
        assert store.datasets("other", None, 10) == []


@pytest.mark.usefixtures("three")
def test_records_that_came_during_a_freeze_still_wait(opened: Opened, handle: Handle, events: Events) -> None:
    tick(opened, 0)
    job, before = tick(opened, 5) or "", through(opened)
    handle([events.accepted("late", "late")])
    finish(opened, job, result("a", before))
    with opened() as store:
        assert store.changed("p", store.progress("p").frozen_positions) == 1


@pytest.mark.usefixtures("three")
def test_a_failed_freeze_is_shown_and_not_tried_again_at_once(opened: Opened, handle: Handle, events: Events) -> None:
    tick(opened, 0)
    job = tick(opened, 5) or ""
    assert finish(opened, job, Failure("empty_dataset", "nothing is left")) == []
    assert tick(opened, 60) is None
    with opened() as store:
        [failed] = store.failures("p")
        assert failed.failure is not None
        assert (failed.failure["code"], failed.failure["job"]) == ("empty_dataset", job)
        assert store.changed("p", store.progress("p").frozen_positions) == 3
    handle([events.accepted(f"n{i}", f"n{i}") for i in range(3)])
    tick(opened, 61)
    finish(opened, tick(opened, 66) or "", result("a", through(opened)))
    with opened() as store:
        assert store.failures(None) == []


def on_demand(opened: Opened, revision: str) -> str | int:
    with opened() as store:
        asked = handlers.freeze_now("p", revision, store)
        return asked.number if isinstance(asked, DatasetRow) else asked


@pytest.mark.usefixtures("three")
def test_on_demand_freezes_whatever_waits_and_answers_with_the_newest_when_nothing_does(
    opened: Opened, handle: Handle, events: Events
) -> None:
    revision = events.defined(**POLICY).revision
    job = on_demand(opened, revision)
    assert job == on_demand(opened, revision) == "freeze-p-1"
    [frozen] = finish(opened, "freeze-p-1", result("a", through(opened)))
    assert frozen.cause == "on_demand"
    assert on_demand(opened, revision) == 1
    handle([events.accepted("r9", "9")])
    assert on_demand(opened, revision) == "freeze-p-2"


@pytest.mark.usefixtures("three")
def test_a_changed_project_gets_the_newest_dataset_announced_again(opened: Opened, events: Events) -> None:
    on_demand(opened, events.defined(**POLICY).revision)
    finish(opened, "freeze-p-1", result("a", through(opened)))
    changed = "f" * 64
    assert on_demand(opened, changed) == "freeze-p-2"
    [again] = finish(opened, "freeze-p-2", {"version": "a" * 64, "through": through(opened)})
    assert (again.dataset.number, again.project_revision) == (1, changed)
    assert on_demand(opened, changed) == 1


@pytest.mark.usefixtures("three")
def test_a_failure_is_over_once_the_project_is_again_what_the_newest_dataset_was_made_for(
    opened: Opened, events: Events
) -> None:
    first = events.defined(**POLICY).revision
    on_demand(opened, first)
    finish(opened, "freeze-p-1", result("a", through(opened)))
    assert on_demand(opened, "f" * 64) == "freeze-p-2"
    finish(opened, "freeze-p-2", Failure("empty_dataset", "nothing is left"))
    with opened() as store:
        assert len(store.failures("p")) == 1
    assert on_demand(opened, first) == 1
    with opened() as store:
        assert store.failures("p") == []


def test_a_project_that_is_not_defined_is_not_frozen(opened: Opened, handle: Handle, events: Events) -> None:
    handle([events.accepted(f"r{i}", str(i)) for i in range(10)])
    assert tick(opened, 0) is None
    assert tick(opened, 60) is None


@pytest.mark.usefixtures("three")
def test_a_project_taken_out_of_service_is_not_frozen(opened: Opened, handle: Handle, events: Events) -> None:
    tick(opened, 0)
    handle([events.defined(**POLICY).model_copy(update={"retired_after": 0, "sequence": 1})])
    assert tick(opened, 60) is None
    handle([events.defined(**POLICY).model_copy(update={"sequence": 2})])
    assert tick(opened, 61) == "freeze-p-1"
