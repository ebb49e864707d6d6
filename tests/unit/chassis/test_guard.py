from collections.abc import Callable
from datetime import UTC, datetime
from pathlib import Path
from typing import Any

import pytest
from fastapi import APIRouter, FastAPI, Request
from fastapi.testclient import TestClient

from services.chassis.http import keys
from services.chassis.http.application import answer, install_errors
from services.chassis.http.guard import By, Guard, install, needs
from services.chassis.http.keys import Scope, change, generate
from services.chassis.http.limits import BodyLimit
from services.chassis.settings import Settings
from services.serving.completion_response import openai_shape

NOW = datetime(2026, 1, 31, tzinfo=UTC)
Make = Callable[..., TestClient]


def router() -> APIRouter:
    routes = APIRouter()

    @routes.get("/v1/things")
    async def things(project: str | None = None) -> str:
        return f"things of {project}"

    @routes.get("/v1/all")
    async def everything() -> str:
        return "all"

    @routes.post("/v1/undeclared")
    async def undeclared(body: dict[str, Any]) -> int:
        return len(body)

    @routes.post("/v1/projects/{project}/records")
    @needs("submit", body=BodyLimit(1000, "NORIA_TINY_BYTES"))
    async def submit(project: str, request: Request) -> int:
        return len(await request.body())

    @routes.post("/v1/models/{name}/promote")
    @needs("approve", project="name")
    async def promote(name: str) -> str:
        return name

    @routes.get("/v1/runs/{run}")
    @needs("read", "infer", by_handler=True)
    async def run(run: str, by: By) -> str:
        by.check(run.partition("-")[0])
        return run

    return routes


@pytest.fixture(autouse=True)
def _at_once(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(keys, "LOOK_SECONDS", 0.0)


@pytest.fixture
def make(tmp_path: Path) -> Make:
    def made(shape: Any = answer, **options: Any) -> TestClient:
        app = FastAPI()
        install_errors(app, shape)
        app.add_api_route("/health/live", lambda: "live")
        settings = Settings.model_validate({"home": tmp_path, "max_body_bytes": 100, **options})
        install(app, Guard(settings), shape, router())
        return TestClient(app)

    return made


def key(home: Path, *scopes: Scope, projects: list[str] | None = None) -> dict[str, str]:
    """The header of a new key."""
    made, token = generate(scopes, projects, "", NOW)
    change(home / "state" / "api-keys.json", lambda found: [*found, made])
    return {"authorization": f"Bearer {token}"}


def test_without_any_key_all_is_open_on_this_machine(make: Make) -> None:
    client = make()
    assert client.get("/v1/all").status_code == 200
    assert client.post("/v1/undeclared", json={}, headers={"authorization": "Bearer none"}).status_code == 200


def test_without_any_key_all_is_closed_on_another_address(make: Make) -> None:
    client = make(host="10.0.0.7")
    assert client.get("/v1/all").status_code == 401
    assert client.get("/health/live").status_code == 200


def test_with_a_key_one_is_needed(make: Make, tmp_path: Path) -> None:
    client = make()
    mine = key(tmp_path, "read")
    for wrong in ({}, {"authorization": "Bearer noria_00000000_x"}, {"authorization": mine["authorization"][7:]}):
        refused = client.get("/v1/all", headers=wrong)
        assert (refused.status_code, refused.json()["error"]["code"]) == (401, "unauthorized")
        assert refused.headers["www-authenticate"] == "Bearer"
    assert client.get("/v1/all", headers=mine).json() == "all"
    assert client.get(
        "/v1/all", headers={"authorization": mine["authorization"].replace("Bearer", "bearer")}
    ).is_success
    assert client.get("/nowhere").status_code == 401
    assert client.get("/health/live").status_code == 200


def test_without_a_key_no_body_is_parsed(make: Make, tmp_path: Path) -> None:
    key(tmp_path, "read")
    assert make().post("/v1/undeclared", content=b"{").status_code == 401


def test_the_last_key_revoked_closes_the_door(make: Make, tmp_path: Path) -> None:
    client = make()
    mine = key(tmp_path, "read")
    assert client.get("/v1/all", headers=mine).status_code == 200
    change(tmp_path / "state" / "api-keys.json", lambda f: [k.model_copy(update={"revoked_at": NOW}) for k in f])
    assert client.get("/v1/all", headers=mine).status_code == 401
    assert client.get("/v1/all").status_code == 401


@pytest.mark.parametrize(
    ("method", "path", "scope"),
    [
        ("GET", "/v1/all", "read"),
        ("GET", "/v1/things", "read"),
        ("GET", "/v1/runs/a-1", "read"),
        ("GET", "/v1/runs/a-1", "infer"),
        ("POST", "/v1/undeclared", "operate"),
        ("POST", "/v1/projects/a/records", "submit"),
        ("POST", "/v1/models/a/promote", "approve"),
    ],
)
def test_a_route_asks_for_its_scope(make: Make, tmp_path: Path, method: str, path: str, scope: Scope) -> None:
    client = make()
    allowed: set[Scope] = {"read", "infer"} if path == "/v1/runs/a-1" else {scope}
    rest: list[Scope] = [s for s in keys.SCOPES if s not in allowed]
    others = key(tmp_path, *rest)
    assert client.request(method, path, headers=key(tmp_path, scope), json={}).status_code == 200
    refused = client.request(method, path, headers=others, json={})
    assert (refused.status_code, refused.json()["error"]["code"]) == (403, "forbidden")
    assert scope in refused.json()["error"]["message"]


@pytest.mark.parametrize(
    ("method", "path", "status"),
    [
        ("POST", "/v1/projects/a/records", 200),
        ("POST", "/v1/projects/b/records", 403),
        ("POST", "/v1/models/a/promote", 200),
        ("POST", "/v1/models/b/promote", 403),
        ("GET", "/v1/things?project=a", 200),
        ("GET", "/v1/things?project=b", 403),
        ("GET", "/v1/things?project=b&project=a", 403),
        ("GET", "/v1/things?project=a&project=b", 403),
        ("GET", "/v1/things?project=%61", 200),
        ("GET", "/v1/things", 403),
        ("GET", "/v1/things?project=", 403),
        ("GET", "/v1/runs/a-1", 200),
        ("GET", "/v1/runs/b-1", 403),
        ("GET", "/v1/all", 403),
        ("GET", "/v1/all?project=a", 403),
        ("POST", "/v1/undeclared?project=a", 403),
    ],
)
def test_a_key_for_a_project_reaches_that_one_alone(
    make: Make, tmp_path: Path, method: str, path: str, status: int
) -> None:
    mine = key(tmp_path, *keys.SCOPES, projects=["a"])
    assert make().request(method, path, headers=mine, json={}).status_code == status
    assert make().request(method, path, headers=key(tmp_path, *keys.SCOPES), json={}).status_code == 200


def chunked(size: int) -> Any:
    return (b"x" * 10 for _ in range(size // 10))


def test_a_long_body_is_refused_whole_and_in_pieces(make: Make) -> None:
    client = make()
    for body in (b'"' + b"x" * 100 + b'"', chunked(200)):
        refused = client.post("/v1/undeclared", content=body, headers={"content-type": "application/json"})
        assert (refused.status_code, refused.json()["error"]["code"]) == (413, "too_large")
        assert "100 bytes, the most that is taken here (NORIA_MAX_BODY_BYTES)" in refused.json()["error"]["message"]
    assert client.post("/v1/projects/a/records", content=b"x" * 1000).json() == 1000
    assert client.post("/v1/projects/a/records", content=chunked(1000)).json() == 1000
    longer = client.post("/v1/projects/a/records", content=b"x" * 1001)
    assert (longer.status_code, "1000 bytes" in longer.text, "(NORIA_TINY_BYTES)" in longer.text) == (413, True, True)
    assert client.post("/v1/projects/a/records", content=chunked(1010)).status_code == 413


def test_too_many_requests_are_refused_by_key(make: Make, tmp_path: Path) -> None:
    client = make(rate_per_second=0.1, rate_burst=2)
    one, two = key(tmp_path, "read"), key(tmp_path, "read")
    answers = [client.get("/v1/all", headers=one) for _ in range(3)]
    assert [a.status_code for a in answers] == [200, 200, 429]
    assert answers[-1].json()["error"]["code"] == "too_many_requests"
    assert 1 <= int(answers[-1].headers["retry-after"]) <= 10
    assert client.get("/v1/all", headers=two).status_code == 200
    assert [client.get("/v1/all").status_code for _ in range(3)] == [401, 401, 429]
    assert [client.get("/health/live").status_code for _ in range(5)] == [200] * 5


def test_the_gateways_errors_have_openais_shape(make: Make, tmp_path: Path) -> None:
    client = make(openai_shape, rate_per_second=0.1, rate_burst=2)
    mine = key(tmp_path, "read")
    kinds = {
        401: client.get("/v1/all"),
        403: client.post("/v1/undeclared", json={}, headers=mine),
        413: client.post("/v1/undeclared", content=b"x" * 101, headers=key(tmp_path, "operate")),
        404: client.get("/nowhere", headers=mine),
        429: client.get("/v1/all", headers=mine),
    }
    for status, refused in kinds.items():
        assert refused.status_code == status
        assert {"message", "type", "param", "code"} <= set(refused.json()["error"])
    assert kinds[401].headers["www-authenticate"] == "Bearer"
    assert "retry-after" in kinds[429].headers


def test_without_the_scope_no_body_is_parsed(make: Make, tmp_path: Path) -> None:
    assert make().post("/v1/undeclared", content=b"{", headers=key(tmp_path, "read")).status_code == 403


def test_what_cannot_be_guarded_is_not_served() -> None:
    nested = APIRouter()
    nested.include_router(router())
    app = FastAPI()
    with pytest.raises(TypeError, match="cannot be guarded"):
        install(app, Guard(Settings()), answer, nested)


def test_the_document_names_the_key_and_the_refusals(make: Make) -> None:
    document = make().get("/openapi.json").json()
    operation = document["paths"]["/v1/undeclared"]["post"]
    assert operation["security"] == [{"api_key": []}]
    assert {"401", "403", "413", "422", "429"} <= set(operation["responses"])
    assert "security" not in document["paths"]["/health/live"]["get"]


def test_before_the_tables_are_there_a_request_is_told_to_come_again(tmp_path: Path) -> None:
    started = False
    app = FastAPI()
    install_errors(app)
    install(app, Guard(Settings(home=tmp_path), lambda: started), answer, router())
    client = TestClient(app)
    early = client.get("/v1/all")
    assert (early.status_code, early.json()["error"]["code"], early.headers["retry-after"]) == (503, "starting", "1")
    started = True
    assert client.get("/v1/all").status_code == 200
