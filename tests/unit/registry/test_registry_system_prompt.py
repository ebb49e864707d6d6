"""A system prompt that a base cannot take is refused when the project is applied, where the base's files are at hand."""

from collections.abc import Iterator
from pathlib import Path
from typing import Any

import pytest
from fastapi import FastAPI
from fastapi.testclient import TestClient

from services.chassis.context import Context
from services.chassis.http import guard
from services.chassis.http.application import answer, install_errors
from services.chassis.observability.metrics import Metrics
from services.chassis.storage.artifacts import open_store
from services.chassis.storage.database import open_engine
from services.chassis.storage.migration import migrate
from services.registry.http import make_router
from services.registry.settings import RegistrySettings
from services.registry.store import SqlStore
from tests.lm_bases import make_base
from tests.unit.registry.conftest import MIGRATIONS


@pytest.fixture
def client(tmp_path: Path) -> Iterator[TestClient]:
    settings = RegistrySettings(home=tmp_path, cache=tmp_path / "cache", database=f"sqlite:///{tmp_path / 'state.db'}")
    engine = open_engine(settings)
    migrate(engine, "registry", MIGRATIONS)
    context: Any = Context(settings, engine, SqlStore, open_store(settings), Metrics("registry"))
    app = FastAPI()
    install_errors(app)
    guard.install(app, guard.Guard(settings), answer, make_router(context))
    with TestClient(app) as client:
        yield client
    engine.dispose()


def apply(client: TestClient, base: str, system: str | None = "Be brief.") -> Any:
    return client.post("/v1/projects", json={"project": "p", "base": base, "prompt": {"system": system}})


@pytest.mark.parametrize(("family", "why"), [("gemma", "System role not supported"), ("gpt2", "no chat template")])
def test_it_is_refused_with_advice(client: TestClient, tmp_path: Path, family: str, why: str) -> None:
    make_base(family, tmp_path / "cache" / "bases" / family)
    refused = apply(client, family)
    assert refused.status_code == 422
    error = refused.json()["error"]
    assert error["code"] == "invalid_project"
    assert error["detail"][0]["loc"] == ["prompt", "system"]
    assert why in error["message"]
    assert "Leave prompt.system out" in error["message"]
    assert apply(client, family, None).status_code == 200


def test_a_base_that_takes_it_and_one_that_is_not_at_hand_pass(client: TestClient, tmp_path: Path) -> None:
    assert apply(client, str(make_base("smollm2", tmp_path / "own"))).status_code == 200
    assert apply(client, "owner/elsewhere").status_code == 200
