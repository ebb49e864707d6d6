"""Feedback as the events that submit its records. Knows nothing of how feedback came."""

from collections.abc import Mapping
from itertools import islice
from typing import Any

from pydantic import ValidationError

from contracts.events.feedback import ExampleReleasedV1, SignalRecordedV1
from contracts.events.upstream import RecordSubmittedV1
from contracts.records import RecordInvalid

VARIABLES, OF_SIGNAL = 44, 48
"""So many of the prompt's variables become tags of an example, or of a signal; a record has 50 tags at most."""


def of_example(example: ExampleReleasedV1) -> RecordSubmittedV1:
    """The submission of an example, tagged with where it comes from.

    The values of the prompt's variables are tags too: the record is learnt and measured behind the prompt that was answered.

    Raises:
        RecordInvalid: `invalid_field`, where the example's identity does not fit a record.
    """
    told = {
        "origin": "feedback",
        "source": example.source,
        "request_id": example.request_id,
        "model": example.teacher or f"{example.model.name}@{example.model.version}",
        **({"reviewer": example.by} if example.by else {}),
    }
    return _submitted(
        project=example.project,
        record_id=example.example_id,
        subject=example.user,
        tags=_variables(example.tags, VARIABLES) | told,
        record=example.record.model_dump(mode="json"),
    )


def submitted(signal: SignalRecordedV1) -> RecordSubmittedV1 | None:
    """The submission of a correction or comparison of before there were examples; None for other signals.

    Raises:
        RecordInvalid: `invalid_field`, where the signal's identity or user does not fit a record.
    """
    if signal.record is None or signal.by_policy:
        return None
    return _submitted(
        project=signal.project,
        record_id=identity(signal),
        subject=signal.user,
        tags=_variables(signal.prompt_variables or {}, OF_SIGNAL)
        | {"origin": "feedback", "request_id": signal.request_id},
        record=signal.record.model_dump(mode="json"),
    )


def identity(signal: SignalRecordedV1) -> str:
    """The record's identity: the one feedback chose, else one of the signal's own."""
    return signal.record_id or f"signal-{signal.signal_id}"


def _variables(given: Mapping[str, str], most: int) -> dict[str, str]:
    return dict(islice(given.items(), most))


def _submitted(**fields: Any) -> RecordSubmittedV1:
    try:
        return RecordSubmittedV1(**fields)
    except ValidationError as error:
        first = error.errors(include_url=False, include_input=False)[0]
        where = ".".join(str(part) for part in first["loc"])
        raise RecordInvalid("invalid_field", f"{where}: {first['msg']}") from error
