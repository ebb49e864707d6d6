"""`noria status` shows the failures that nothing later made good, and no others."""

from typing import Any

import pytest

from services.cli import health
from services.cli.errors import ConsoleError
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
    failed = {"model": model, "status": "failed", "detail": "no weights", "promoted_at": "2026-01-02T00:00:00+00:00"}
    later = {
        **failed,
        "model": {"name": "p", "version": 3},
        "status": "deployed",
        "promoted_at": "2026-01-03T00:00:00+00:00",
    }
    (found,) = unsettled([failed], "deployment", "model")
    assert (found["id"], found["project"], found["detail"]) == ("p@2", "p", "no weights")
    assert unsettled([failed, later], "deployment", "model") == []


def test_a_deployment_that_failed_is_not_made_good_by_what_was_deployed_before() -> None:
    def row(version: int, status: str, promoted: int, deployed: int | None) -> dict[str, Any]:
        at = f"2026-01-{promoted:02}T00:00:00+00:00"
        deployed_at = f"2026-01-{deployed:02}T00:00:00+00:00" if deployed else None
        model = {"name": "p", "version": version}
        return {"project": "p", "model": model, "status": status, "promoted_at": at, "deployed_at": deployed_at}

    before = row(2, "deployed", 1, 1)
    assert [f["id"] for f in unsettled([row(3, "failed", 2, None), before], "deployment", "model")] == ["p@3"]
    assert unsettled([row(2, "deployed", 3, 3), row(3, "failed", 2, None)], "deployment", "model") == []


class Stack:
    """What the services answer."""

    def __init__(self, **version: Any) -> None:
        self.retired: set[str] = set()
        self.version = {"run_id": "r1", "stage": "candidate", "evaluation": {"status": "failed"}, **version}
        self.away = False
        self.freezes: list[dict[str, Any]] = []

    def get(self, service: str, path: str, **_: Any) -> Any:
        if self.away:
            raise ConsoleError("unreachable", service)
        if path == "/v1/datasets":
            return {"items": [], "next": None, "failures": self.freezes}
        return {"project": path.rsplit("/", 1)[1], "retired": path.rsplit("/", 1)[1] in self.retired}

    def items(self, service: str, path: str, limit: int, **_: Any) -> dict[str, Any]:
        evaluation = run("r1", "failed", 3, evaluation_id="e1")
        runs = [run("r2", "failed", 1, project="q")]
        rows = {"trainer": runs, "evaluator": [evaluation], "serving": [], "registry": [self.version]}
        return {"items": rows[service]}


def shown(stack: Stack, monkeypatch: pytest.MonkeyPatch) -> list[str]:
    monkeypatch.setattr("services.cli.api.get", stack.get)
    monkeypatch.setattr("services.cli.api.items", stack.items)
    return [failure["id"] for failure in health.failures()]


def test_a_freeze_that_failed_is_shown_until_one_does_not(monkeypatch: pytest.MonkeyPatch) -> None:
    stack = Stack(stage="rejected")
    code, said = "empty_dataset", "nothing is left to train on; the step pattern left out the last of them"
    asked = {"p": "2026-01-02T00:00:00+00:00", "q": "2026-01-03T00:00:00+00:00"}
    stack.freezes = [
        {"project": name, "code": code, "detail": said, "job": f"freeze-{name}-3", "asked_at": at}
        for name, at in asked.items()
    ]
    assert shown(stack, monkeypatch) == ["freeze-q-3", "freeze-p-3", "r2"]
    failure = health.failures()[0]
    assert (failure["kind"], failure["project"], failure["cause"], failure["detail"]) == ("freeze", "q", code, said)
    stack.retired = {"q"}
    assert shown(stack, monkeypatch) == ["freeze-p-3"]
    stack.freezes = []
    assert shown(stack, monkeypatch) == []


def test_nothing_of_a_retired_project_is_shown(monkeypatch: pytest.MonkeyPatch) -> None:
    stack = Stack()
    assert shown(stack, monkeypatch) == ["e1", "r2"]
    stack.retired = {"q"}
    assert shown(stack, monkeypatch) == ["e1"]
    stack.retired = {"p"}
    assert shown(stack, monkeypatch) == ["r2"]
    stack.away = True
    assert shown(stack, monkeypatch) == ["e1", "r2"]


def test_a_failure_behind_the_many_runs_of_another_project_is_shown(monkeypatch: pytest.MonkeyPatch) -> None:
    asked: list[str] = []
    rows = {
        "busy": [run(f"b{n}", "done", 9, project="busy") for n in range(300)],
        "quiet": [run("q1", "failed", 1, project="quiet")],
        "gone": [run("g1", "failed", 1, project="gone")],
        "fine": [run("f1", "done", 2, project="fine"), run("f0", "failed", 1, project="fine")],
    }

    def items(service: str, path: str, limit: int, project: str | None = None) -> dict[str, Any]:
        if path == "/v1/projects":
            return {"items": [{"project": name, "retired": name == "gone"} for name in rows]}
        if path != "/v1/runs":
            return {"items": []}
        asked.append(project or "all")
        return {"items": (rows[project] if project else [x for of in rows.values() for x in of])[:limit]}

    monkeypatch.setattr("services.cli.api.items", items)
    monkeypatch.setattr("services.cli.api.get", lambda _, path, **more: {"retired": path.endswith("gone")})
    assert [failure["id"] for failure in health.failures()] == ["q1"]
    assert asked == ["all", "fine", "quiet"]


@pytest.mark.parametrize(
    ("version", "ids"),
    [
        ({"stage": "rejected"}, ["r2"]),
        ({"stage": "production"}, ["r2"]),
        ({"evaluation": {"status": "done"}}, ["r2"]),
        ({"run_id": "another", "stage": "rejected"}, ["e1", "r2"]),
    ],
)
def test_a_failed_evaluation_is_settled_by_what_became_of_its_candidate(
    version: dict[str, Any], ids: list[str], monkeypatch: pytest.MonkeyPatch
) -> None:
    assert shown(Stack(**version), monkeypatch) == ids
