"""What a dead letter of ingestion keeps of a message's value: nothing that the project's policy does not want kept."""

from contracts.envelope import Malformed, load_json
from contracts.json_text import named_project
from services.chassis.messaging.kafka.decompression import Unread
from services.ingestion.domain.policy import Policy, hidden
from services.ingestion.store import SqlStore

STRICT = Policy(pii="redact")


def concealed(store: SqlStore, value: bytes) -> bytes:
    """The value with placeholders. Where nobody can tell its project, the policy of any project that hides something counts."""
    if isinstance(value, Unread):
        return value  # packed, or longer than any event
    policy = _policy(store, value)
    if policy.pii == "keep":
        return value
    return hidden(value.decode("utf-8", "surrogateescape"), policy).encode("utf-8", "surrogateescape")


def _policy(store: SqlStore, value: bytes) -> Policy:
    project = named_project(value) or _enveloped(value)
    if project and store.knows(project):
        return store.policy(project)
    return STRICT if any(store.policy(name).pii != "keep" for name in store.projects.names()) else Policy()


def _enveloped(value: bytes) -> str:
    """The project that the data of a CloudEvent in structured mode names."""
    try:
        project = load_json(value)["data"]["project"]
    except (Malformed, KeyError, TypeError, IndexError):
        return ""
    return project if isinstance(project, str) else ""
