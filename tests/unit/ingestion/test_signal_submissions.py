"""A correction is a record with the values of its prompt's variables as tags, as many as a record may have."""

import json
from pathlib import Path
from typing import Any

import pytest

from contracts.events.feedback import SignalRecordedV1
from services.ingestion.domain.signals import submitted

EXAMPLE = Path(__file__).parents[3] / "contracts" / "examples" / "feedback.signal.recorded.v1.json"


@pytest.mark.parametrize(
    ("given", "kept"),
    [
        (None, {}),
        ({"team": "sales", "origin": "mine"}, {"team": "sales"}),
        ({f"v{n}": "x" for n in range(64)}, {f"v{n}": "x" for n in range(48)}),
    ],
)
def test_variables_are_tags(given: Any, kept: dict[str, str]) -> None:
    signal = SignalRecordedV1.model_validate(json.loads(EXAMPLE.read_text())["data"] | {"prompt_variables": given})
    found = submitted(signal)
    assert found is not None
    assert found.tags == kept | {"origin": "feedback", "request_id": signal.request_id}
