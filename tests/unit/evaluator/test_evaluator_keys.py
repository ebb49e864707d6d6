from collections.abc import Callable
from pathlib import Path
from types import SimpleNamespace
from typing import Any

import pytest
from fastapi import FastAPI
from fastapi.testclient import TestClient

from services.chassis.http.application import answer, install_errors
from services.chassis.http.guard import Caller, Guard, install
from services.chassis.settings import Settings
from services.evaluator import http

STORE: Any = SimpleNamespace(
    evaluation=lambda _: SimpleNamespace(project="bank"),
    evaluations=lambda *_: [],
    jobs=SimpleNamespace(get=lambda _: None),
    projects=SimpleNamespace(current=lambda _: None),
)


class Ctx:
    async def read(self, fn: Callable[[Any], Any]) -> Any:
        return fn(STORE)


@pytest.mark.parametrize(("project", "status"), [("bank", 200), ("shop", 403)])
def test_an_evaluation_is_for_keys_of_its_project(
    project: str, status: int, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(http, "view", lambda *_: {"project": "bank"})
    mine = Caller("k", frozenset({"read"}), frozenset({project}))
    monkeypatch.setattr(Guard, "admit", lambda *_: mine)
    app = FastAPI()
    install_errors(app)
    ctx: Any = Ctx()
    install(app, Guard(Settings(home=tmp_path)), answer, http.make_router(ctx))
    assert TestClient(app).get("/v1/evaluations/e-1").status_code == status
    for path in ("", "/page"):
        told = TestClient(app).get(f"/v1/comparisons/bank{path}", params={"a": 0, "b": 1, "b_run": "r"})
        assert told.status_code == (404 if status == 200 else 403), "nothing was measured; others are not told"
