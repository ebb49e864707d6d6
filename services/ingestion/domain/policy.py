"""What a project's policy makes of a submission before anything of it is kept: sampling, redaction, consent."""

from dataclasses import dataclass
from hashlib import sha256
from typing import Any, Literal

from contracts.canonical import digest
from contracts.events.upstream import RecordSubmittedV1
from contracts.project import Ingest
from contracts.records import RecordInvalid
from services.chassis.privacy.redaction import Redactor
from services.ingestion.domain.columns import Columns
from services.ingestion.domain.validation import ValidRecord, validated

CONSENT = "consent"
"""The tag that says whether the person agreed; a column of this name becomes it."""
AGREED = frozenset({"yes", "true", "1"})


@dataclass(frozen=True, slots=True)
class Policy:
    """A project's `ingest`. `columns` None: it names none."""

    columns: Columns | None = None
    sample: float = 1.0
    pii: Literal["keep", "redact", "drop"] = "keep"
    require_consent: bool = False


LETS_ALL_IN = Policy()


def policy_of(ingest: Ingest) -> Policy:
    """The policy of a project's section."""
    columns = {str(name): column for name, column in ingest.columns.items()} or None
    return Policy(columns, ingest.sample, ingest.pii, ingest.require_consent)


def is_sampled(record_id: str, policy: Policy) -> bool:
    """Whether the record is in the sample: by its identity, so that it is whenever it comes, in all of its revisions."""
    return policy.sample >= 1 or int.from_bytes(sha256(record_id.encode()).digest()[:8]) < policy.sample * 2**64


def cleaned(event: RecordSubmittedV1, policy: Policy) -> RecordSubmittedV1:
    """The submission without secrets and personal data, where the project wants none; done again it changes nothing.

    The subject is replaced by a digest, so that a person's records still belong together.

    Raises:
        RecordInvalid: `holds_pii`: the project drops such records, or it stands in the record's identity.
    """
    if policy.pii == "keep":
        return event
    redactor = Redactor()
    record, tags, subject = redactor.value(event.record), redactor.value(event.tags), redactor.text(event.subject or "")
    identity = redactor.text(event.record_id)
    if identity != event.record_id:
        raise RecordInvalid("holds_pii", f"record_id holds {names_of(redactor)}; give an identity that says nothing")
    if not redactor.kinds:
        return event
    if policy.pii == "drop":
        raise RecordInvalid(
            "holds_pii", f"the record holds {names_of(redactor)}, and the project's ingest.pii drops such"
        )
    if subject != (event.subject or ""):
        subject = pseudonym(event.project, event.subject or "")
    return event.model_copy(update={"record": record, "tags": tags, "subject": subject or event.subject})


def pseudonym(project: str, subject: str) -> str:
    """What stands for a subject that is an address or a number: the same for the same one, within a project."""
    return f"subject-{digest(f'{project}/{subject}')[:16]}"


def hidden(text: str, policy: Policy) -> str:
    """A text that is kept about a submission, without what the project does not want kept."""
    return text if policy.pii == "keep" else Redactor().text(text)


def judged(event: RecordSubmittedV1, policy: Policy) -> ValidRecord:
    """The valid record of a submission that was cleaned.

    Raises:
        RecordInvalid: as `validated`, `no_consent`, or `holds_pii` where its parts make such only together.
    """
    valid = validated(event, policy.columns)
    check_consent(valid.tags.get(CONSENT, ""), policy)
    if policy.pii == "keep" or valid.became.shape is None:
        return valid
    redactor = Redactor()
    record: dict[str, Any] = redactor.value(valid.record.model_dump(mode="json"))
    if not redactor.kinds:
        return valid
    if policy.pii == "drop":
        raise RecordInvalid(
            "holds_pii", f"the record holds {names_of(redactor)}, and the project's ingest.pii drops such"
        )
    return validated(event.model_copy(update={"record": record, "tags": valid.tags}))


def check_consent(said: str, policy: Policy) -> None:
    """Raises RecordInvalid `no_consent` where the project asks for consent, and the tag does not say so."""
    if policy.require_consent and said.strip().lower() not in AGREED:
        raise RecordInvalid("no_consent", f"the project takes records with consent alone; give the tag {CONSENT}: yes")


def let_in(event: RecordSubmittedV1, policy: Policy) -> RecordSubmittedV1:
    """The submission as it may go to the topic; whether it is in the sample is decided behind that.

    Raises:
        RecordInvalid: as `cleaned` and `judged`.
    """
    event = cleaned(event, policy)
    judged(event, policy)
    return event


def names_of(redactor: Redactor) -> str:
    """The kinds that were found, for a message."""
    return ", ".join(sorted(redactor.kinds))
