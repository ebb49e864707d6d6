from datetime import timedelta

import pytest

from contracts.preparation import Freeze
from services.prep.domain.policy import Pending, describe_next_freeze, due

FREEZE = Freeze(records=10, quiet=timedelta(seconds=5))


@pytest.mark.parametrize(
    ("changed", "quiet", "expected"),
    [(9, 60.0, False), (10, 4.9, False), (10, 5.0, True), (19, 0.0, False), (20, 0.0, True)],
)
def test_a_freeze_is_due_by_count_and_quiet_and_never_starves(changed: int, quiet: float, expected: bool) -> None:
    assert due(Pending(changed, quiet), FREEZE) is expected


def test_the_outlook_says_what_is_missing() -> None:
    assert describe_next_freeze(Pending(7, 0), FREEZE).startswith("after 3 more")
    assert describe_next_freeze(Pending(12, 2), FREEZE).startswith("in 3 s")
