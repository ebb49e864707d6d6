"""JSON Schemas of events and of the project file, and where schemas and golden messages lie.

Events are open at every level, the project file is closed: so the specification of a project has two schemas.
"""

from pathlib import Path
from typing import Any, cast

from contracts import gate, training
from contracts.compat import OTHERS
from contracts.envelope import Event
from contracts.project import ProjectSpec

ROOT = Path(__file__).parent
SCHEMAS = ROOT / "schemas"
EXAMPLES = ROOT / "examples"
DIALECT = "https://json-schema.org/draft/2020-12/schema"
PROJECT_FILE = "project-file"
SCHEMA_BASE = "https://noria.dev/schemas/"


def schema(event: type[Event]) -> dict[str, Any]:
    """JSON Schema (2020-12) of the event's data as it stands on the wire."""
    return {
        "$schema": DIALECT,
        "$id": f"{SCHEMA_BASE}{event.TOPIC}.json",
        **opened(event.model_json_schema(mode="validation")),
    }


def project_file_schema() -> dict[str, Any]:
    """JSON Schema (2020-12) of a project file, for editors: closed, so that a misspelt key is seen.

    A file may write margins into rules, and a stage as the method; events hold them apart.
    """
    body = closed(ProjectSpec.model_json_schema(mode="validation"))
    body["$defs"]["GateRules"]["properties"]["require"]["items"]["pattern"] = gate.WRITTEN
    recipe, methods = body["$defs"]["Train"]["properties"], list(training.METHODS)
    recipe["method"] = {**{k: v for k, v in recipe["method"].items() if k != "const"}, "enum": methods}
    recipe["stages"]["items"] = {"enum": methods}
    return {"$schema": DIALECT, "$id": f"{SCHEMA_BASE}{PROJECT_FILE}.json", **body}


def closed(body: Any) -> Any:
    """`body` with its open unions closed: without the branches for kinds that come later."""
    if isinstance(body, list):
        parts = cast(list[Any], body)
        return [closed(part) for part in parts if not (isinstance(part, dict) and OTHERS in part)]
    if not isinstance(body, dict):
        return body
    return {name: closed(part) for name, part in cast(dict[str, Any], body).items()}


def opened(body: Any) -> Any:
    """`body` with its closed objects open."""
    if isinstance(body, list):
        return [opened(part) for part in cast(list[Any], body)]
    if not isinstance(body, dict):
        return body
    parts = cast(dict[str, Any], body)
    return {k: opened(v) for k, v in parts.items() if not (k == "additionalProperties" and v is False)}


def example_path(event: type[Event]) -> Path:
    """The golden message of an event version."""
    return EXAMPLES / f"{event.TOPIC}.json"
