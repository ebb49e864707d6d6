"""A season in half a minute: what is pruned and collected keeps its bounds on real services. `scripts/soak` is the long one."""

from tests.soak.__main__ import run
from tests.soak.policy import DAYS, Policy

SECONDS = 24.0
POLICY = Policy(day=SECONDS / DAYS, messages=60, artifacts=60, inbox=70, requests=20, signals=20, jobs=20, slack=5.0)
"""What was sent within the last 14 s may stand in an inbox: without pruning all of it stands, and the bound is broken."""


def test_every_size_keeps_its_bound() -> None:
    report = run("sqlite", SECONDS, seed=3, policy=POLICY, ahead=1000)
    assert report["broken"] == []
    reached = report["reached"]
    assert reached["events taken"] > 2000
    assert reached["datasets"] > 0
    assert reached["segments"] > 0
    assert reached["feedback"] > 0
