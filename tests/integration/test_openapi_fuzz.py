"""Every service's OpenAPI document against the running service: Schemathesis finds no 5xx and nothing undocumented.

Then, with an API key in the file, every route of the document is closed to whoever has none. The serving service has no
Triton here: 503 is among its documented answers, and among no other's.
"""

import base64
import os
import re
import subprocess
import sys
from collections.abc import Generator
from contextlib import contextmanager
from dataclasses import dataclass
from datetime import UTC, datetime
from pathlib import Path
from typing import Any

import httpx
import pytest
import requests
import schemathesis
from confluent_kafka import Producer
from hypothesis import HealthCheck, Phase, given, settings
from hypothesis import strategies as st
from schemathesis import APIOperation, Case, GenerationMode
from schemathesis.checks import not_a_server_error
from schemathesis.core.failures import FailureGroup
from schemathesis.core.result import Ok
from schemathesis.specs.openapi.checks import (
    content_type_conformance,
    response_schema_conformance,
    status_code_conformance,
)

from compose.local.settings import SERVICES
from contracts.envelope import encode, new_meta
from contracts.events.registry import ProjectDefinedV1
from contracts.project import ProjectSpec
from services.chassis.http.guard import OPEN
from services.chassis.http.keys import SCOPES, change, generate
from tests.conftest import free_port
from tests.integration.tiny.harness import until

SESSION = requests.Session()
# A server drops the connection of a request that broke it: the next one shall not suffer for it.
CLIENT = httpx.Client(timeout=20, trust_env=False, limits=httpx.Limits(max_keepalive_connections=0))
EXAMPLES = 12
"""Of each operation and each mode, valid and invalid."""
PROJECT = "fuzzed"
KNOWN = {"project": PROJECT, "name": PROJECT, "model": PROJECT}
"""Half of the examples name what exists, so that they get past the first 404."""
PARAMETER = re.compile(r"{\w+}")
JSON = {"content-type": "application/json"}
EMPTY: list[Any] = [{"object": "list", "data": []}, {"items": [], "next": None}, {}]
"""Lists in which a key sees its projects only; OTLP's answer to a request without a span, which names no project."""
CHECKS: list[Any] = [status_code_conformance, content_type_conformance, response_schema_conformance]


@dataclass
class Running:
    name: str
    url: str
    home: Path

    @property
    def document(self) -> dict[str, Any]:
        return CLIENT.get(f"{self.url}/openapi.json").raise_for_status().json()

    def operations(self) -> list[tuple[str, str]]:
        """(method, path) of every operation that is not open to all; parameters are filled in."""
        paths = {path: item for path, item in self.document["paths"].items() if path not in OPEN}
        filled = {path: path.replace("{project}", PROJECT).replace("{name}", PROJECT) for path in paths}
        return [(method.upper(), PARAMETER.sub("1", filled[path])) for path, item in paths.items() for method in item]


@contextmanager
def running(name: str, kafka: str, home: Path) -> Generator[Running]:
    port = free_port()
    own = {"HOME": str(home), "KAFKA_BOOTSTRAP": kafka, "PORT": str(port), "TRITON_GRPC_PORT": str(free_port())}
    own["CACHE"] = str(home / "cache")  # no embedder in it, which any key sees
    environment = {**os.environ, **{f"NORIA_{key}": value for key, value in own.items()}}
    path = home / f"{name}.log"
    with path.open("wb") as log:
        command = [sys.executable, "-m", f"services.{name}.app"]
        process = subprocess.Popen(command, env=environment, stdout=log, stderr=subprocess.STDOUT)
    url = f"http://127.0.0.1:{port}"

    def works() -> bool:
        assert process.poll() is None, path.read_text()[-3000:]
        try:
            checks = CLIENT.get(f"{url}/health/ready").json()["checks"]
        except httpx.TransportError:
            return False
        return all(checks[part]["ok"] for part in ("database", "kafka"))

    try:
        until(works, bool, 60)
        yield Running(name, url, home)
    finally:
        process.terminate()
        assert process.wait(15) == 0, path.read_text()[-3000:]


@pytest.fixture(scope="module")
def defined(kafka: str) -> None:
    """A project that every service knows but the registry, which makes them."""
    spec = ProjectSpec(project=PROJECT, base="none")
    event = ProjectDefinedV1(project=PROJECT, revision="0" * 64, spec=spec)
    key, value, headers = encode(event, new_meta(event, "urn:test", "fuzzed"))
    producer = Producer({"bootstrap.servers": kafka})
    producer.produce(event.TOPIC, value, key, headers=dict[str, str | bytes | None](headers))
    assert producer.flush(20) == 0


@pytest.fixture(scope="module", params=SERVICES)
def service(request: pytest.FixtureRequest, kafka: str, tmp_path_factory: pytest.TempPathFactory) -> Generator[Running]:
    with running(request.param, kafka, tmp_path_factory.mktemp(request.param)) as found:
        if found.name == "registry":
            CLIENT.post(f"{found.url}/v1/projects", json={"project": PROJECT, "base": "none"}).raise_for_status()
        else:
            request.getfixturevalue("defined")
        yield found


def test_no_request_of_the_document_breaks_the_service(service: Running) -> None:
    schema = schemathesis.openapi.from_url(f"{service.url}/openapi.json")
    operations = [result.ok() for result in schema.get_all_operations() if isinstance(result, Ok)]
    assert len(operations) == sum(len(item) for item in service.document["paths"].values())
    found = [
        fault for operation in operations for mode in modes(operation) if (fault := fuzz(service, operation, mode))
    ]
    assert not found, "\n".join(found)


def modes(operation: APIOperation[Any, Any, Any, Any]) -> list[GenerationMode]:
    """Valid requests, and invalid ones where there is anything to get wrong."""
    parts = [*operation.iter_parameters(), *operation.body]
    return [GenerationMode.POSITIVE, *([GenerationMode.NEGATIVE] if parts else [])]


def fuzz(service: Running, operation: APIOperation[Any, Any, Any, Any], mode: GenerationMode) -> str | None:
    """What is wrong with the operation's answers."""

    @settings(
        max_examples=EXAMPLES,
        derandomize=True,
        database=None,
        deadline=None,
        phases=[Phase.generate],
        suppress_health_check=[HealthCheck.too_slow, HealthCheck.filter_too_much, HealthCheck.data_too_large],
    )
    @given(operation.as_strategy(generation_mode=mode), st.booleans())
    def one(case: Case[Any], known: bool) -> None:
        if known:
            case.path_parameters |= {k: v for k, v in KNOWN.items() if k in case.path_parameters}
        answer = case.call(timeout=20, session=SESSION)
        checks = CHECKS if service.name == "serving" and answer.status_code == 503 else [*CHECKS, not_a_server_error]
        case.validate_response(answer, checks=checks)

    try:
        one()
    except FailureGroup as error:
        return f"{operation.label} {mode}: {error}: {[str(each) for each in error.exceptions]}"
    return None


def cursor(place: str) -> str:
    return base64.urlsafe_b64encode(place.encode()).decode().rstrip("=")


HOSTILE = (
    "%00",
    "%FF%FE",
    "%F0%9F%8C%8A",
    "..%2F..%2Fetc",
    str(2**63),
    "9" * 400,
    "-1",
    "1e400",
    "x" * 5000,
    "NaN",
    cursor("[" * 9000),
    cursor(f"[{2**63}]"),
    cursor('["2026-01-31T12:00:00", "x", 1]'),
    cursor('["2026-01-31T12:00:00Z", "\\ud800", 99999999999999999999]'),
    cursor('["\\u0000"]'),
)
"""Values of parameters that databases, codecs and parsers have stumbled over."""
BODIES = (
    b"",
    b"null",
    b"[" * 100_000,
    b'{"a":' * 20_000,
    b'{"project": "\\ud800", "request_id": "\\ud800", "text": "\\ud800", "by": "\\ud800"}',
    b'{"project": "fuzzed", "base": "\\ud800"}',
    b'{"project": "fuzzed", "base": "\\u0000"}',
    b'{"request_id": "a", "text": "\\u0000x", "user": "\\ud800", "score": 1e400}',
    b'{"request_id": "a", "text": "\\ud83d"}',
    b'{"number": 99999999999999999999, "by": "\\u0000", "reason": "\\ud800"}',
    b'{"by": "x", "reason": "\\ud800"}',
    b'{"model": "\\ud800", "messages": [{"role": "user", "content": "\\ud800"}], "prompt": "\\ud800"}',
    b'{"number": ' + b"9" * 10_000 + b"}",
    b'[{"record": {"text": "\\ud800"}, "tags": {"\\ud800": "x"}, "subject": "\\u0000"}]',
    b'{"a": NaN, "number": Infinity}',
)


def test_no_hostile_value_breaks_the_service(service: Running) -> None:
    broken: list[str] = []

    def sent(method: str, path: str, body: bytes | None = None) -> None:
        answer = CLIENT.request(method, service.url + path, content=body, headers=JSON)
        if answer.status_code >= 500 and not (service.name == "serving" and answer.status_code == 503):
            broken.append(f"{method} {path[:120]} {(body or b'')[:80]!r}: {answer.status_code} {answer.text[:200]}")

    for path, item in service.document["paths"].items():
        for method, operation in item.items():
            known = path.replace("{project}", PROJECT).replace("{name}", PROJECT)
            numbered = PARAMETER.sub("1", known)
            queries = [p["name"] for p in operation.get("parameters", []) if p["in"] == "query"]
            for value in HOSTILE:
                for place in {PARAMETER.sub(value, path), PARAMETER.sub(value, known)} - {path}:
                    sent(method, place, b"{}")
                for name in queries:
                    sent(method, f"{numbered}?{name}={value}")
            for body in BODIES if method != "get" else ():
                sent(method, numbered, body)
    assert not broken, "\n".join(broken)


def test_with_a_key_in_the_file_every_route_asks_for_one(service: Running) -> None:
    file = service.home / "state" / "api-keys.json"
    every, token = generate(SCOPES, None, "may everything", datetime.now(UTC))
    nothing, other = generate((), None, "may nothing", datetime.now(UTC))
    foreign, stranger = generate(SCOPES, ["another"], "for another project", datetime.now(UTC))
    change(file, lambda found: [*found, every, nothing, foreign])
    operations = service.operations()
    assert any(method != "GET" for method, _ in operations)
    until(lambda: CLIENT.get(f"{service.url}/parked").status_code, lambda status: status == 401)
    for method, path in operations:
        assert ask(service, method, path).status_code == 401, (method, path)
        assert ask(service, method, path, other).status_code == 403, (method, path)
        assert ask(service, method, path, token).status_code not in (401, 403), (method, path)
        foreigner = ask(service, method, path, stranger)
        assert foreigner.status_code in (400, 403, 404, 422) or foreigner.json() in EMPTY, (
            method,
            path,
            foreigner.text,
        )
    assert {method for path in OPEN for method in service.document["paths"].get(path, ())} == {"get"}
    for path in sorted(OPEN):
        assert CLIENT.get(f"{service.url}{path}").status_code not in (401, 403), path
    change(file, lambda found: [key.model_copy(update={"revoked_at": datetime.now(UTC)}) for key in found])
    until(lambda: ask(service, "GET", "/parked", token).status_code, lambda status: status == 401)


def ask(service: Running, method: str, path: str, token: str | None = None) -> httpx.Response:
    headers = {"authorization": f"Bearer {token}"} if token else {}
    return CLIENT.request(method, service.url + path, headers=headers, json={})
