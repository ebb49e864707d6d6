"""The page of a service's OpenAPI document needs nothing that the service does not send itself."""

import re
from urllib.parse import urljoin

from fastapi import FastAPI
from fastapi.testclient import TestClient

from services.chassis.http import documentation
from services.chassis.http.guard import OPEN

ORIGIN = "http://service.example"


def test_all_that_the_page_loads_comes_from_the_service() -> None:
    app = FastAPI(title="Noria x", docs_url=None, redoc_url=None)
    documentation.install(app)
    client = TestClient(app, base_url=ORIGIN)
    page = client.get("/docs")
    assert page.headers["content-type"].startswith("text/html")
    named = re.findall(r"""(?:src|href|url)["']?\s*[=:]\s*["']([^"']+)""", page.text)
    assert len(named) == 4
    for address in {urljoin(f"{ORIGIN}/docs", each) for each in named}:
        assert address.startswith(ORIGIN)
        assert client.get(address).status_code == 200
        assert address.removeprefix(ORIGIN) in OPEN
    assert not re.findall(r"https?://", page.text)
