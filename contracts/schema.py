"""JSON Schemas of events and where schemas and golden messages lie. Knows no catalogue."""

from pathlib import Path
from typing import Any

from contracts.envelope import Event

ROOT = Path(__file__).parent
SCHEMAS = ROOT / "schemas"
EXAMPLES = ROOT / "examples"
DIALECT = "https://json-schema.org/draft/2020-12/schema"
SCHEMA_BASE = "https://noria.dev/schemas/"


def schema(event: type[Event]) -> dict[str, Any]:
    """JSON Schema (2020-12) of the event's data as it stands on the wire."""
    body = event.model_json_schema(mode="validation")
    return {
        "$schema": "https://json-schema.org/draft/2020-12/schema",
        "$id": f"{SCHEMA_BASE}{event.TOPIC}.json",
        **body,
    }


def example_path(event: type[Event]) -> Path:
    """The golden message of an event version."""
    return EXAMPLES / f"{event.TOPIC}.json"
