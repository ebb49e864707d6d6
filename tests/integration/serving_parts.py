"""A real Triton and a real serving process on a home of their own, and promotions of tiny models for them."""

import hashlib
import os
import shutil
import signal
import subprocess
import sys
import tempfile
import time
import uuid
from collections.abc import Callable, Generator
from contextlib import contextmanager
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any, TypeVar

import httpx
import openai
from confluent_kafka import Consumer, Producer

from contracts.envelope import Event, encode, new_meta
from contracts.events.registry import ModelPromotedV1, ProjectDefinedV1
from contracts.project import ProjectSpec, Prompt, Serve
from contracts.types import ArtifactRef, BaseRef, DatasetRef, Files, ModelRef
from services.chassis.storage.artifacts import ArtifactStore
from tests.conftest import free_port
from tests.integration.tiny_model import make_adapter, make_base

T = TypeVar("T")
TEMPLATE = (
    "{% for message in messages %}{{ '[' + message['role'] + '] ' + message['content'] + '\n' }}{% endfor %}"
    "{% if add_generation_prompt %}[assistant] {% endif %}"
)


def until(found: Callable[[], T | None], seconds: float, what: str) -> T:
    """What `found` gives once it gives something."""
    deadline = time.monotonic() + seconds
    while (value := found()) is None or value is False:
        assert time.monotonic() < deadline, f"not within {seconds:g} s: {what}"
        time.sleep(0.05)
    return value


@dataclass
class Stack:
    """One home with its Triton and its serving service."""

    home: Path
    kafka: str
    ports: dict[str, int] = field(
        default_factory=lambda: {n: free_port() for n in ("http", "grpc", "metrics", "serving")}
    )
    running: dict[str, subprocess.Popen[bytes]] = field(default_factory=dict[str, "subprocess.Popen[bytes]"])
    settings: dict[str, str] = field(default_factory=dict[str, str])

    @property
    def url(self) -> str:
        return f"http://127.0.0.1:{self.ports['serving']}"

    def environment(self) -> dict[str, str]:
        ports = {f"NORIA_TRITON_{name.upper()}_PORT": str(self.ports[name]) for name in ("http", "grpc", "metrics")}
        own = {
            "NORIA_HOME": str(self.home),
            "NORIA_KAFKA_BOOTSTRAP": self.kafka,
            "NORIA_SERVING_PORT": str(self.ports["serving"]),
        }
        return {
            **os.environ,
            **ports,
            **own,
            "NORIA_SERVING_CHECK_SECONDS": "1",
            "OMP_NUM_THREADS": "1",
            **self.settings,
        }

    def start(self, name: str) -> None:
        module = {"triton": "services.serving.triton.launch", "serving": "services.serving.app"}[name]
        with (self.home / f"{name}.log").open("ab") as log:
            self.running[name] = subprocess.Popen(
                [sys.executable, "-m", module], env=self.environment(), stdout=log, stderr=subprocess.STDOUT
            )

    def kill(self, name: str, number: signal.Signals = signal.SIGKILL) -> None:
        process = self.running.pop(name)
        process.send_signal(number)
        process.wait(30)

    def log(self, name: str) -> str:
        return (self.home / f"{name}.log").read_text(errors="replace")[-6000:]

    def ready(self) -> bool | None:
        try:
            return httpx.get(f"{self.url}/health/ready", timeout=5).status_code == 200 or None
        except httpx.HTTPError:
            return None

    def models(self) -> list[str]:
        try:
            return [m["id"] for m in httpx.get(f"{self.url}/v1/models", timeout=5).json()["data"]]
        except httpx.HTTPError:
            return []

    def wait_for(self, name: str, root: str, seconds: float = 90) -> None:
        """Until `name` answers with the version `root` and everything is ready."""

        def routed() -> bool | None:
            try:
                shown = httpx.get(f"{self.url}/v1/models/{name}", timeout=5)
            except httpx.HTTPError:
                return None
            return (shown.status_code == 200 and shown.json()["root"] == root and self.ready()) or None

        try:
            until(routed, seconds, f"{name} is {root}")
        except AssertionError as error:
            raise AssertionError(f"{error}\n{self.log('serving')}\n{self.log('triton')}") from error

    def statuses(self) -> dict[tuple[str, int], str]:
        items = httpx.get(f"{self.url}/v1/deployments", timeout=5).json()["items"]
        return {(i["project"], i["model"]["version"]): i["status"] for i in items}


@contextmanager
def running(stack: Stack) -> Generator[Stack]:
    """Triton and serving, ended by their pids."""
    stack.home.mkdir(parents=True, exist_ok=True)
    stack.start("triton")
    stack.start("serving")
    try:
        try:
            until(stack.ready, 60, "serving is ready")
        except AssertionError as error:
            raise AssertionError(f"{error}\n{stack.log('serving')}\n{stack.log('triton')}") from error
        yield stack
    finally:
        for name in list(stack.running):
            stack.kill(name, signal.SIGTERM)
        clean = [sys.executable, "-m", "services.serving.triton.launch", "--clean"]
        subprocess.run(clean, env=stack.environment(), check=True)


@dataclass
class Upstream:
    """What the registry would say: projects and promotions of tiny models, straight to Kafka."""

    stack: Stack
    artifacts: ArtifactStore
    scratch: Path
    base: BaseRef
    producer: Producer

    def send(self, event: Event) -> None:
        key, value, headers = encode(event, new_meta(event, "urn:test", uuid.uuid4().hex))
        self.producer.produce(type(event).TOPIC, value, key, headers=dict[str, str | bytes | None](headers))
        assert self.producer.flush(20) == 0

    def define(self, project: str, system: str | None = "Be brief.", base: str = "tiny", **serve: Any) -> None:
        spec = ProjectSpec(
            project=project,
            base=base,
            prompt=Prompt(system=system),
            serve=Serve.model_validate({"max_tokens": 8, **serve}),
        )
        digest = hashlib.sha256(spec.model_dump_json().encode()).hexdigest()
        self.send(ProjectDefinedV1(project=project, revision=digest, spec=spec))

    def adapter(self, name: str, seed: int, **options: Any) -> Files:
        return self.artifacts.put_directory(make_adapter(self.scratch / name, seed, **options))

    def promote(self, project: str, version: int, files: Files, kind: Any = "lora") -> None:
        self.send(
            ModelPromotedV1(
                project=project,
                model=ModelRef(name=project, version=version),
                kind=kind,
                base=self.base,
                files=files,
                dataset=DatasetRef(project=project, version="0" * 64, number=1, files={}),
                project_revision="0" * 64,
                run_id=f"run-{version}",
                evaluation=None,
                metrics={},
                previous=None,
                by="test",
                cause="promote",
            )
        )


def make_upstream(stack: Stack, scratch: Path) -> Upstream:
    artifacts = ArtifactStore((stack.home / "artifacts").as_uri(), stack.home / "cache" / "artifacts")
    base = make_base(scratch / "base")
    (base / "chat_template.jinja").write_text(TEMPLATE)
    files: dict[str, ArtifactRef] = artifacts.put_directory(base)
    digest = hashlib.sha256("".join(f"{p} {r.sha256}\n" for p, r in sorted(files.items())).encode()).hexdigest()
    return Upstream(
        stack,
        artifacts,
        scratch,
        BaseRef(name="tiny", digest=digest, files=files),
        Producer({"bootstrap.servers": stack.kafka}),
    )


@contextmanager
def shop(kafka: str, settings: dict[str, str] | None = None, **serve: Any) -> Generator[Upstream]:
    """A stack that answers as `shop` with an adapter of the tiny base."""
    folder = Path(tempfile.mkdtemp(prefix="noria-serving-"))
    try:
        with running(Stack(folder / "home", kafka, settings=settings or {})) as stack:
            upstream = make_upstream(stack, folder / "scratch")
            upstream.define("shop", **serve)
            upstream.promote("shop", 1, upstream.adapter("one", 1))
            stack.wait_for("shop", "shop@1")
            yield upstream
    finally:
        shutil.rmtree(folder, ignore_errors=True)


def openai_client(stack: Stack) -> openai.OpenAI:
    """OpenAI's own client, which tries nothing twice."""
    return openai.OpenAI(base_url=f"{stack.url}/v1", api_key="none", max_retries=0, timeout=60)


SOURCE = ("ce_source", b"/noria/serving")


def read_topic(
    bootstrap: str, topic: str, enough: Callable[[list[dict[str, Any]]], bool], seconds: float = 30
) -> list[dict[str, Any]]:
    """The gateway's own events of a topic from its beginning until there are enough (other tests write there too)."""
    import json

    consumer = Consumer({"bootstrap.servers": bootstrap, "group.id": uuid.uuid4().hex, "auto.offset.reset": "earliest"})
    consumer.subscribe([topic])
    found: list[dict[str, Any]] = []
    deadline = time.monotonic() + seconds
    try:
        while not enough(found):
            assert time.monotonic() < deadline, f"{topic}: only {found}"
            message = consumer.poll(0.2)
            if message is not None and not message.error() and SOURCE in (message.headers() or []):
                found.append(json.loads(message.value() or b"{}"))
    finally:
        consumer.close()
    return found
