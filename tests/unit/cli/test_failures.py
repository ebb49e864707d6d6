"""`noria status` shows the failures that nothing later made good, and no others."""

from typing import Any

import pytest

from services.cli.failures import unsettled


def run(id: str, status: str, day: int, project: str = "p", **more: Any) -> dict[str, Any]:
    return {
        "run_id": id,
        "project": project,
        "status": status,
        "created_at": f"2026-01-{day:02}T00:00:00+00:00",
        **more,
    }


FAILED = run("r1", "failed", 1, cause="out_of_memory")


@pytest.mark.parametrize(
    ("rows", "shown"),
    [
        ([FAILED], ["r1"]),
        ([run("r2", "done", 2), FAILED], []),
        ([FAILED, run("r0", "done", 1, finished_at="2025-12-31T00:00:00+00:00")], ["r1"]),
        ([run("r2", "running", 2), FAILED], ["r1"]),
        ([run("r2", "cancelled", 2), FAILED], ["r1"]),
        ([run("r2", "failed", 2), FAILED], ["r2"]),
        ([run("r2", "done", 2, project="q"), FAILED], ["r1"]),
        ([run("r2", "cancelled", 2)], []),
        ([run("r2", "rejected", 2)], []),
    ],
)
def test_a_later_success_of_the_project_makes_a_failure_good(rows: list[dict[str, Any]], shown: list[str]) -> None:
    found = unsettled(rows, "run", "run_id")
    assert [failure["id"] for failure in found] == shown
    assert all(failure["kind"] == "run" for failure in found)


def test_a_deployment_belongs_to_the_project_of_its_model() -> None:
    model = {"name": "p", "version": 2}
    failed = {"model": model, "status": "failed", "detail": "no weights", "changed_at": "2026-01-02T00:00:00+00:00"}
    later = {
        **failed,
        "model": {"name": "p", "version": 3},
        "status": "deployed",
        "changed_at": "2026-01-03T00:00:00+00:00",
    }
    (found,) = unsettled([failed], "deployment", "model")
    assert (found["id"], found["project"], found["detail"]) == ("p@2", "p", "no weights")
    assert unsettled([failed, later], "deployment", "model") == []
