from collections.abc import Iterator
from datetime import UTC, datetime
from pathlib import Path
from typing import Any, cast

import pytest
from fastapi import FastAPI
from fastapi.testclient import TestClient

from services.chassis.http.application import install_errors
from services.chassis.http.guard import Guard, install
from services.chassis.http.keys import change, generate
from services.chassis.observability.metrics import Metrics
from services.serving.completion_response import openai_shape
from services.serving.domain.routing import build
from services.serving.embedder import directory
from services.serving.http import make_router
from services.serving.metrics import gateway_metrics
from services.serving.runtime import Runtime
from services.serving.settings import ServingSettings
from tests.unit.serving.builders import target

BODY: dict[str, Any] = {"model": "shop", "messages": [{"role": "user", "content": "hi"}]}


@pytest.fixture
def cache(tmp_path: Path) -> Path:
    return tmp_path / "cache"


@pytest.fixture
def metrics() -> Metrics:
    return Metrics("serving")


@pytest.fixture
def client(tmp_path: Path, cache: Path, metrics: Metrics) -> Iterator[TestClient]:
    settings = ServingSettings(home=tmp_path, cache=cache, max_body_bytes=1000)
    made, token = generate(["infer"], ["shop"], "", datetime.now(UTC))
    change(settings.api_keys_file, lambda _: [made])
    runtime = Runtime(settings, build([target("shop"), target("bank")], {"shop": 1, "bank": 1}, ["shop", "bank"]))
    runtime.metrics = gateway_metrics(metrics, settings)
    app = FastAPI()
    install_errors(app, openai_shape)
    install(app, Guard(settings), openai_shape, make_router(runtime)(cast(Any, None)))
    with TestClient(app, headers={"authorization": f"Bearer {token}"}) as client:
        yield client


def code(answer: Any) -> tuple[int, str, str]:
    error = answer.json()["error"]
    return answer.status_code, error["type"], error["code"]


def test_a_key_asks_the_models_of_its_project_alone(client: TestClient) -> None:
    # With a right key and model the request gets as far as to the spool, which this test does not open.
    assert code(client.post("/v1/chat/completions", json=BODY)) == (503, "service_unavailable", "record_unavailable")
    for model in ("bank", "bank@1", "bank@base", "nobody", "@1", "shop "):
        refused = client.post("/v1/chat/completions", json=BODY | {"model": model})
        assert code(refused) == (403, "permission_error", "forbidden"), model
        assert code(client.post("/v1/completions", json={"model": model, "prompt": "x"}))[0] == 403


def test_a_refusal_is_counted_for_the_project_that_was_asked(client: TestClient, metrics: Metrics) -> None:
    client.post("/v1/chat/completions", json=BODY)
    client.post("/v1/chat/completions", json=BODY | {"temperature": 3})  # nobody reads on for its project

    def count(status: str, project: str) -> float | None:
        found = {"status": status, "project": project}
        return metrics.registry.get_sample_value("noria_serving_refused_total", found)

    assert (count("503", "shop"), count("400", ""), count("400", "shop")) == (1, 1, None)


def test_a_key_sees_the_models_of_its_project_alone(client: TestClient) -> None:
    assert [model["id"] for model in client.get("/v1/models").json()["data"]] == ["shop", "shop@1"]
    assert client.get("/v1/models/shop").status_code == 200
    assert client.get("/v1/models/bank@1").status_code == 403


def test_without_a_key_nothing_is_answered(client: TestClient) -> None:
    for path in ("/v1/chat/completions", "/v1/completions", "/v1/embeddings"):
        refused = client.post(path, json=BODY, headers={"authorization": "Bearer none"})
        assert code(refused) == (401, "authentication_error", "unauthorized")


def test_what_is_not_offered_is_said_with_any_key(client: TestClient) -> None:
    assert code(client.post("/v1/audio/speech", json={})) == (404, "invalid_request_error", "unknown_url")


EMBED = {"model": "all-MiniLM-L6-v2", "input": "hi"}


def test_any_key_that_may_infer_is_for_embeddings(client: TestClient, cache: Path) -> None:
    missing = client.post("/v1/embeddings", json=EMBED)
    assert code(missing) == (503, "service_unavailable", "embedder_missing")
    assert "scripts/setup --assets" in missing.json()["error"]["message"]
    assert missing.headers["retry-after"]
    assert client.get("/v1/models/all-MiniLM-L6-v2").status_code == 503
    assert "all-MiniLM-L6-v2" not in [model["id"] for model in client.get("/v1/models").json()["data"]]
    directory(ServingSettings(cache=cache)).mkdir(parents=True)
    assert client.get("/v1/models/all-MiniLM-L6-v2").json()["id"] == "all-MiniLM-L6-v2"
    assert "all-MiniLM-L6-v2" in [model["id"] for model in client.get("/v1/models").json()["data"]]
    wrong = client.post("/v1/embeddings", json=EMBED | {"input": [[5]]})
    assert code(wrong) == (400, "invalid_request_error", "invalid_value")


def test_embeddings_have_a_limit_of_their_own(client: TestClient) -> None:
    refused = client.post("/v1/embeddings", json=EMBED | {"input": ["x" * 2000]})
    assert code(refused)[:1] == (503,)  # longer than the other routes take here
    refused = client.post("/v1/embeddings", content=b" " * 4_194_305)
    assert code(refused) == (413, "invalid_request_error", "request_too_large")


def test_a_long_request_is_refused_whole_and_in_pieces(client: TestClient) -> None:
    for content in (b" " * 1001, (b" " * 100 for _ in range(11))):
        refused = client.post("/v1/chat/completions", content=content)
        assert code(refused) == (413, "invalid_request_error", "request_too_large")
        assert "NORIA_SERVING_MAX_BODY_BYTES" in refused.json()["error"]["message"]
