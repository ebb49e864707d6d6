"""The HTTP entrance of a real service process: who is let in, how much and how often. Needs no broker."""

import json
import os
import re
import shlex
import subprocess
import sys
from collections.abc import Callable, Iterator
from pathlib import Path
from typing import Any

import httpx
import pytest

from tests.conftest import free_port
from tests.integration.tiny.harness import Harness, until

Start = Callable[..., Harness]


@pytest.fixture
def start(tmp_path: Path) -> Iterator[Start]:
    harnesses: list[Harness] = []

    def started(*, works: bool = True, **settings: str) -> Harness:
        harness = Harness(f"127.0.0.1:{free_port()}", f"sqlite:///{tmp_path / 'state.db'}", tmp_path)
        harness.environment |= {f"NORIA_{name}": value for name, value in settings.items()}
        harnesses.append(harness)
        harness.start(ready=False)
        if works:
            until(
                lambda: harness.get("/health/ready"), lambda r: r is not None and r.json()["checks"]["database"]["ok"]
            )
        return harness

    yield started
    for harness in harnesses:
        if harness.process is not None and harness.process.poll() is None:
            harness.kill()


def noria(harness: Harness, *arguments: str, status: int = 0, **variables: str) -> Any:
    """What `noria ARGUMENTS --json` prints."""
    command = [sys.executable, "-m", "services.cli.app", *arguments, "--json"]
    ports = {f"NORIA_{name}_PORT": str(harness.port) for name in ("PREP", "REGISTRY", "TRAINER")}
    environment = {**harness.environment, **ports, **variables}
    done = subprocess.run(command, env=environment, capture_output=True, text=True, timeout=60, check=False)
    assert done.returncode == status, f"{arguments}: {done.stdout}{done.stderr}"
    return json.loads(done.stdout)


def retry(harness: Harness, token: str = "", **options: Any) -> httpx.Response:
    headers = {"content-type": "application/json"} | ({"authorization": f"Bearer {token}"} if token else {})
    return httpx.post(f"http://127.0.0.1:{harness.port}/parked/retry", headers=headers, **options)


def test_an_address_that_others_reach_is_refused_without_a_key(start: Start) -> None:
    harness = start(works=False, HOST="0.0.0.0")  # noqa: S104 - it shall refuse to listen there
    assert harness.process is not None
    assert harness.process.wait(30) == 2
    said = harness.log.read_text()
    assert "0.0.0.0 is reached from other machines" in said
    assert "noria keys create" in said


def test_a_key_opens_until_it_is_revoked(start: Start) -> None:
    harness = start()
    assert retry(harness).status_code == 200
    made = noria(harness, "keys", "create", "--scope", "operate", "--note", "tests")
    until(lambda: retry(harness).status_code, lambda status: status == 401)
    assert retry(harness, made["key"]).status_code == 200
    reader = noria(harness, "keys", "create", "--scope", "read", "--project", "shop")
    refused = until(lambda: retry(harness, reader["key"]), lambda answer: answer.status_code != 401)
    assert (refused.status_code, refused.json()["error"]["code"]) == (403, "forbidden")
    assert [harness.get(path).status_code for path in ("/health/live", "/metrics")] == [200, 200]  # pyright: ignore[reportOptionalMemberAccess]
    listed = noria(harness, "keys", "list")["items"]
    assert [(key["id"], key["scopes"], key["projects"]) for key in listed] == [
        (made["id"], ["operate"], None),
        (reader["id"], ["read"], ["shop"]),
    ]
    assert noria(harness, "keys", "revoke", made["id"])["revoked_at"]
    until(lambda: retry(harness, made["key"]).status_code, lambda status: status == 401)
    held = harness.log.read_text() + (harness.home / "state" / "api-keys.json").read_text()
    assert made["key"].split("_", 2)[2] not in held
    assert harness.figure("http_errors_total") >= 3


def test_the_command_line_sends_its_key_and_says_what_is_missing(start: Start) -> None:
    harness = start()
    made = noria(harness, "keys", "create", "--scope", "read")
    until(lambda: retry(harness).status_code, lambda status: status == 401)
    refused = noria(harness, "parked", "retry", "prep", status=1)["error"]
    assert refused["code"] == "unauthorized"
    assert "NORIA_API_KEY" in refused["message"]
    forbidden = noria(harness, "parked", "retry", "prep", status=1, NORIA_API_KEY=made["key"])["error"]
    assert forbidden["code"] == "forbidden"
    assert "operate" in forbidden["message"]
    worker = noria(harness, "keys", "create", "--scope", "operate")
    until(lambda: retry(harness, worker["key"]).status_code, lambda status: status == 200)
    assert noria(harness, "parked", "retry", "prep", NORIA_API_KEY=worker["key"])["hastened"] == 0


def test_a_long_body_is_cut_off_whole_and_in_chunks(start: Start) -> None:
    harness = start(MAX_BODY_BYTES="1000")
    for content in (b" " * 1001, (b" " * 100 for _ in range(100))):
        refused = retry(harness, content=content)
        assert (refused.status_code, refused.json()["error"]["code"]) == (413, "too_large")
    assert retry(harness, content=b" " * 998 + b"{}").status_code == 200
    assert retry(harness, content=(part for part in (b" " * 900, b"{}"))).status_code == 200


def test_too_many_requests_are_told_when_to_come_back(start: Start) -> None:
    harness = start(RATE_PER_SECOND="0.1", RATE_BURST="3")
    answers = [retry(harness) for _ in range(5)]
    assert [answer.status_code for answer in answers] == [200, 200, 200, 429, 429]
    assert answers[-1].json()["error"]["code"] == "too_many_requests"
    assert 1 <= int(answers[-1].headers["retry-after"]) <= 10
    for _ in range(5):
        health = harness.get("/health/live")
        assert health is not None
        assert health.status_code == 200


def test_the_pages_commands_work(tmp_path: Path) -> None:
    """Those of the section on keys: they would close the stack that the other pages' commands are run against."""
    [block] = re.findall(
        r"^```sh\n(noria keys.*?)^```", Path("docs/operations.md").read_text(), re.MULTILINE | re.DOTALL
    )
    made = ""
    for line in block.splitlines():
        command = [sys.executable, "-m", "services.cli.app", *shlex.split(line)[1:]]
        command[-1:] = [made] if "revoke" in command else command[-1:]
        environment = {**os.environ, "NORIA_HOME": str(tmp_path)}
        done = subprocess.run(command, env=environment, capture_output=True, text=True, timeout=60, check=False)
        assert done.returncode == 0, f"{line}: {done.stderr}"
        made = done.stdout.split("_")[1] if "create" in command else made
    held = json.loads((tmp_path / "state" / "api-keys.json").read_text())["keys"]
    assert [(key["scopes"], key["revoked_at"] is None) for key in held] == [
        (["approve", "operate", "read"], True),
        (["feedback", "infer"], False),
    ]
