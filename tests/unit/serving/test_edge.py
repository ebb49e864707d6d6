"""What the gateway does around every route, before its guard."""

from collections.abc import Callable
from pathlib import Path
from typing import Any

import pytest
from fastapi import FastAPI
from fastapi.testclient import TestClient

from services.chassis.app import make_app
from services.chassis.runtime import Runtime
from services.chassis.service import Service
from services.serving.app import make_service
from services.serving.edge import edge
from services.serving.settings import ServingSettings

Made = Callable[..., TestClient]


@pytest.fixture
def made(tmp_path: Path) -> Made:
    """The gateway's entrance in front of one route."""

    def make(**settings: Any) -> TestClient:
        app = FastAPI()
        app.add_api_route("/v1/models/shop", lambda: {"id": "shop"})
        for each in edge(ServingSettings(home=tmp_path, **settings)):
            app.add_middleware(each.cls, *each.args, **each.kwargs)
        return TestClient(app)

    return make


@pytest.mark.parametrize(
    ("given", "kept"), [("a-1.b:c", True), ("x" * 128, True), ("x" * 129, False), ("a b", False), ("", False)]
)
def test_a_well_formed_request_id_is_given_back(made: Made, given: str, kept: bool) -> None:
    shown = made().get("/v1/models/shop", headers={"x-request-id": given}).headers["x-request-id"]
    assert shown == given if kept else shown.startswith("req_")


def test_head_is_get_without_a_body(made: Made) -> None:
    client = made()
    head, get = client.head("/v1/models/shop"), client.get("/v1/models/shop")
    assert (head.status_code, head.content, head.headers["content-length"]) == (200, b"", get.headers["content-length"])
    assert client.head("/v1/none").status_code == 404


def test_an_encoded_body_is_refused_in_words(made: Made) -> None:
    refused = made().post("/v1/chat/completions", content=b"x", headers={"content-encoding": "gzip"})
    assert (refused.status_code, refused.json()["error"]["code"]) == (415, "unsupported_content_encoding")
    assert refused.headers["x-request-id"]


def preflight(client: TestClient, origin: str) -> Any:
    asked = {
        "origin": origin,
        "access-control-request-method": "POST",
        "access-control-request-headers": "authorization",
    }
    return client.options("/v1/models/shop", headers=asked)


def test_browsers_of_named_origins_may_call(made: Made) -> None:
    client = made(cors_origins="https://a.example, https://b.example")
    allowed = preflight(client, "https://b.example")
    assert (allowed.status_code, allowed.headers["access-control-allow-origin"]) == (200, "https://b.example")
    assert preflight(client, "https://c.example").status_code == 400
    answer = client.get("/v1/models/shop", headers={"origin": "https://a.example"})
    assert "x-request-id" in answer.headers["access-control-expose-headers"]


def test_without_the_setting_no_other_origin_may(made: Made) -> None:
    assert "access-control-allow-origin" not in preflight(made(), "https://a.example").headers


def test_the_service_brings_them_before_its_guard(tmp_path: Path) -> None:
    service: Service = make_service(ServingSettings(home=tmp_path, cors_origins="*"))
    client = TestClient(make_app(service, Runtime(service)))
    assert preflight(client, "https://a.example").status_code == 200
    assert client.get("/v1/models").status_code != 200
