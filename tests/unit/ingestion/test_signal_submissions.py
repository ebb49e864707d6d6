"""A correction is a record with the values of its prompt's variables as tags, as many as a record may have."""

import json
from pathlib import Path
from typing import Any

import pytest

from contracts.events.feedback import ExampleReleasedV1, SignalRecordedV1
from services.ingestion.domain.signals import of_example, submitted

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


def test_an_example_is_a_record_that_names_where_it_comes_from() -> None:
    golden = EXAMPLE.with_name("feedback.example.released.v1.json")
    example = ExampleReleasedV1.model_validate(json.loads(golden.read_text())["data"] | {"by": "rita"})
    many = example.model_copy(update={"tags": {f"v{n}": "x" for n in range(64)} | {"source": "mine"}})
    found = of_example(many)
    assert (found.record_id, found.subject) == (example.example_id, example.user)
    told = {"origin": "feedback", "source": "corrections", "request_id": "chatcmpl-5b2c", "model": "shell-copilot@1"}
    assert found.tags == {f"v{n}": "x" for n in range(44)} | told | {"reviewer": "rita"}
    taught = example.model_copy(update={"teacher": "big"})
    assert of_example(taught).tags["model"] == "big", "who answered, not whose place it took"
