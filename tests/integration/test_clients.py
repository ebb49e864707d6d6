"""Clients that people have, unmodified, against a gateway that asks for a key: base URL and key are all they are told."""

from collections.abc import Iterator
from datetime import UTC, datetime
from functools import cache
from pathlib import Path

import httpx
import pytest

from compose.local import assets
from compose.local.settings import StackSettings
from services.chassis.http.keys import change, generate
from tests.integration.client_scripts import CLIENTS, Client
from tests.integration.serving_parts import shop, until

CASES = [(client, check) for client in CLIENTS for check in client.checks()]


@pytest.fixture(scope="module")
def outcomes(kafka: str, tmp_path_factory: pytest.TempPathFactory) -> Iterator["Outcomes"]:
    assets.make(StackSettings(), only="embedder")
    with shop(kafka, {"NORIA_SERVING_MAX_IN_FLIGHT": "64"}, max_tokens=400) as upstream:
        key, token = generate(("infer",), None, "clients", datetime.now(UTC))
        change(upstream.stack.home / "state" / "api-keys.json", lambda found: [*found, key])
        url = f"{upstream.stack.url}/v1"
        until(lambda: httpx.get(f"{url}/models").status_code == 401, 10, "a key is asked for")
        yield Outcomes(url, token, tmp_path_factory.mktemp("clients"))


class Outcomes:
    """What came of each client's script, which is run once."""

    def __init__(self, url: str, key: str, scratch: Path) -> None:
        self._url, self._key, self._scratch = url, key, scratch
        self.of = cache(self._run)

    def _run(self, client: Client) -> dict[str, str]:
        folder = self._scratch / f"{client.script}-{client.environment}"
        folder.mkdir()
        return client.run(self._url, self._key, folder)


@pytest.mark.parametrize(("client", "check"), CASES, ids=[f"{c.title} {c.environment}: {check}" for c, check in CASES])
def test_client(outcomes: "Outcomes", client: Client, check: str) -> None:
    said = outcomes.of(client)
    assert said.keys() == {*client.checks()}
    assert said[check] == "ok", said[check]
