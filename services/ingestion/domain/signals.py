"""A feedback signal as the event that submits its record. Knows nothing of how feedback came."""

from itertools import islice

from pydantic import ValidationError

from contracts.events.feedback import SignalRecordedV1
from contracts.events.upstream import RecordSubmittedV1
from contracts.records import RecordInvalid

VARIABLES = 48
"""So many of them become tags, of which a record has 50 at most."""


def submitted(signal: SignalRecordedV1) -> RecordSubmittedV1 | None:
    """The submission of a correction or comparison, tagged with where it comes from; None for other signals.

    The values of the prompt's variables are tags too: the record is learnt and measured behind the prompt that was answered.

    Raises:
        RecordInvalid: `invalid_field`, where the signal's identity or user does not fit a record.
    """
    if signal.record is None:
        return None
    try:
        return RecordSubmittedV1(
            project=signal.project,
            record_id=identity(signal),
            subject=signal.user,
            tags=dict(islice((signal.prompt_variables or {}).items(), VARIABLES))
            | {"origin": "feedback", "request_id": signal.request_id},
            record=signal.record.model_dump(mode="json"),
        )
    except ValidationError as error:
        first = error.errors(include_url=False, include_input=False)[0]
        where = ".".join(str(part) for part in first["loc"])
        raise RecordInvalid("invalid_field", f"{where}: {first['msg']}") from error


def identity(signal: SignalRecordedV1) -> str:
    """The record's identity: the one feedback chose, else one of the signal's own."""
    return signal.record_id or f"signal-{signal.signal_id}"
