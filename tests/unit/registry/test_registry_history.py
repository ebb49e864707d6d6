from datetime import UTC, datetime

from contracts.project import ProjectSpec
from services.registry.domain.history import Cause, Stage, Transition, previous, production_stack
from services.registry.domain.revision import revision


def entry(version: int, after: Stage, cause: Cause) -> Transition:
    return Transition(version, None, after, cause, "gate", "", datetime(2026, 1, 1, tzinfo=UTC))


def test_two_rollbacks_go_two_versions_back_and_no_further():
    history = [entry(n, "production", "gate") for n in (1, 2, 3)]
    assert previous(history) == 2
    history.append(entry(2, "production", "rollback"))
    assert (production_stack(history), previous(history)) == ([1, 2], 1)
    history.append(entry(1, "production", "rollback"))
    assert previous(history) is None


def test_a_version_that_came_twice_is_popped_once():
    history = [entry(n, "production", "promote") for n in (1, 2, 1, 3)]
    history.append(entry(1, "production", "rollback"))
    assert production_stack(history) == [1, 2, 1]


def test_what_never_was_in_production_does_not_count():
    history = [entry(1, "candidate", "registered"), entry(1, "production", "gate"), entry(2, "rejected", "gate")]
    assert production_stack(history) == [1]
    assert previous(history) is None


def test_the_revision_depends_on_the_meaning_alone():
    plain = ProjectSpec.model_validate({"project": "p", "base": "b"})
    spelt = ProjectSpec.model_validate({"base": "b", "project": "p", "prep": {"freeze": {"quiet": "20s"}}})
    other = ProjectSpec.model_validate({"project": "p", "base": "b", "prep": {"freeze": {"quiet": "21s"}}})
    assert revision(plain) == revision(spelt)
    assert revision(plain) != revision(other)
    assert len(revision(plain)) == 64
