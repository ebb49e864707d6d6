import json
from collections.abc import Callable
from contextlib import AbstractContextManager
from datetime import UTC, datetime
from typing import Any

from contracts.events.ingestion import RecordAcceptedV1
from contracts.events.registry import ProjectDefinedV1
from contracts.preparation import Prep
from contracts.project import ProjectSpec
from contracts.records import parse_record
from services.prep.store import SqlStore

NOW = datetime(2026, 1, 31, tzinfo=UTC)
Opened = Callable[[], AbstractContextManager[SqlStore]]


class Events:
    """Makes the events of one project."""

    def defined(self, base: str = "b", **prep: Any) -> ProjectDefinedV1:
        spec = ProjectSpec(project="p", base=base, prep=Prep.model_validate(prep))
        revision = f"{len(json.dumps(prep)):064x}"
        return ProjectDefinedV1(project="p", revision=revision, spec=spec)

    def accepted(self, record_id: str, text: str, revision: int = 1, **tags: str) -> RecordAcceptedV1:
        name, record = parse_record({"prompt": f"question {text}", "completion": f"answer {text}"})
        return RecordAcceptedV1(
            project="p",
            record_id=record_id,
            revision=revision,
            tags=tags,
            format=name,
            record=record,
            digest="0" * 64,
        )
