"""What the gateway knows of the bases of projects of which nothing was promoted."""

from datetime import UTC, datetime

from contracts.project import ProjectSpec
from services.serving.applied_bases import RETRY_SECONDS, AppliedBases
from services.serving.domain.served_version import Applied

NOW = datetime(2026, 1, 31, tzinfo=UTC)


def test_a_base_that_nobody_names_any_more_is_not_looked_for_again() -> None:
    bases = AppliedBases((Applied(ProjectSpec(project="p", base="x"), NOW, 1),))
    assert bases.sought(0) == ["x"]
    bases.refuse("x", "it is nowhere")
    later = bases.faults["x"][0]
    assert (bases.due(later - RETRY_SECONDS / 2), bases.due(later)) == (False, True)
    assert bases.awaited() == {"p": "it is nowhere"}
    bases.projects = ()
    assert not bases.due(later)
    assert not bases.sought(later)
