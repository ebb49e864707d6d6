"""The gateway's own routes on a real port, with a teacher and without Triton; records are written down."""

import asyncio
import threading
from collections.abc import AsyncGenerator, Generator
from contextlib import contextmanager
from dataclasses import dataclass, field
from datetime import UTC, datetime
from pathlib import Path
from typing import Any, cast

import openai
import pytest
import uvicorn
from fastapi import FastAPI

from contracts.events.serving import InferenceCompletedV1
from contracts.project import ProjectSpec, Prompt, Serve
from services.chassis.http.application import install_errors
from services.chassis.http.guard import Guard, install
from services.chassis.observability.metrics import Metrics
from services.serving.completion_response import openai_shape
from services.serving.domain.reconcile import Loaded
from services.serving.domain.routing import build
from services.serving.domain.served_version import Applied
from services.serving.domain.teacher_routing import teacher_target
from services.serving.http import make_router
from services.serving.metrics import gateway_metrics
from services.serving.runtime import Runtime
from services.serving.settings import ServingSettings
from services.serving.triton import client
from services.serving.triton.client import Chunk
from tests.scripted_endpoint import Endpoint
from tests.unit.serving.builders import TemplatesHere, target

PRICE = {"prompt": 2.0, "completion": 10.0}
"""Of 100 and 20 tokens: 0.0004."""
USER: Any = [{"role": "user", "content": "hello"}]


@dataclass
class Taught:
    """A gateway that answers as `shop`."""

    runtime: Runtime
    metrics: Metrics
    url: str = ""
    records: list[InferenceCompletedV1] = field(default_factory=list[InferenceCompletedV1])

    @property
    def openai(self) -> openai.OpenAI:
        return openai.OpenAI(base_url=f"{self.url}/v1", api_key="none", max_retries=0, timeout=20)

    def ask(self, **more: Any) -> Any:
        asked: dict[str, Any] = {"model": "shop", "messages": USER, **more}
        return self.openai.chat.completions.create(**asked)

    def count(self, name: str, **labels: str) -> float:
        return self.metrics.registry.get_sample_value(f"noria_serving_{name}", labels) or 0.0


@contextmanager
def gateway(
    home: Path,
    endpoint: Endpoint,
    monkeypatch: pytest.MonkeyPatch,
    *,
    version: int | None = 0,
    hosts: str | None = None,
    **teacher: Any,
) -> Generator[Taught]:
    """With the base (version 0), a promoted version, or None of a model of its own, whose answer is "own"."""
    allowed = endpoint.url.removesuffix("/v1") if hosts is None else hosts
    settings = ServingSettings(home=home, teacher_hosts=allowed, secrets=home / "secrets")
    given = {"url": endpoint.url, "model": "large-1", "price": PRICE, **teacher}
    serve = Serve.model_validate({"max_tokens": 64, "teacher": given})
    spec = ProjectSpec(project="shop", base="b", prompt=Prompt(system="Be brief."), serve=serve)
    taught = teacher_target(Applied(spec, datetime(2026, 1, 31, tzinfo=UTC), 3))
    own = [] if version is None else [target(version=version, serve=serve)]
    runtime = Runtime(settings, up=True, triton=cast(Any, object()))
    runtime.routes = build(own, {"shop": version} if version else {}, ["shop"], teachers=[taught] if taught else [])
    runtime.templates = cast(Any, TemplatesHere())
    runtime.loaded = {target().triton_model: Loaded()}
    made = Taught(runtime, Metrics("serving"))
    runtime.metrics = gateway_metrics(made.metrics, settings)

    async def record(event: InferenceCompletedV1) -> None:
        made.records.append(event)

    async def generate(*_: Any, **__: Any) -> AsyncGenerator[Chunk]:
        yield Chunk("own", "stop", 5, 1)

    runtime.record = record
    monkeypatch.setattr(client, "generate", generate)
    app = FastAPI()
    install_errors(app, openai_shape)
    install(app, Guard(settings), openai_shape, make_router(runtime)(cast(Any, None)))
    server = uvicorn.Server(uvicorn.Config(app, port=0, log_level="error", lifespan="off"))
    began = threading.Event()

    async def serving() -> None:
        task = asyncio.create_task(server.serve())
        while not server.started:  # noqa: ASYNC110 - uvicorn tells it in no other way
            await asyncio.sleep(0.005)
        made.url = f"http://127.0.0.1:{server.servers[0].sockets[0].getsockname()[1]}"
        began.set()
        await task

    thread = threading.Thread(target=lambda: asyncio.run(serving()))
    thread.start()
    assert began.wait(20)
    try:
        yield made
    finally:
        endpoint.gate.set()
        server.should_exit = True
        thread.join(20)
