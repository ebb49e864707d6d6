"""A span as the submissions of its call: one for each answer. Which spans are calls, and why one gives no record."""

from typing import Any

from pydantic import ValidationError

from contracts.events.upstream import RecordSubmittedV1
from contracts.records import RecordInvalid
from contracts.turns import ROLES, conversation, tools
from services.ingestion.domain.columns import TAG_NAME, TAG_VALUE
from services.ingestion.domain.traces import genai, names, openinference, openllmetry
from services.ingestion.domain.traces.spans import Attributes, Call, Span, first, mapping

WAYS = (genai.call, openinference.call, openllmetry.call)
"""In the order in which they are asked: the first that tells contents counts."""
MAX_ANSWERS = 128
NO_CONTENT = (
    "the span tells of a call without its contents; have the instrumentation record them "
    "(OTEL_INSTRUMENTATION_GENAI_CAPTURE_MESSAGE_CONTENT, TRACELOOP_TRACE_CONTENT; OPENINFERENCE_HIDE_INPUTS not set), "
    "or send its log events to /v1/logs"
)


def is_call(span: Span) -> bool:
    """Whether the span is one call of a language model: embeddings, tools, agents, chains and all else are none."""
    about = span.attributes
    if (kind := about.get(names.KIND)) is not None:
        return kind == names.KIND_OF_CALL
    if (operation := about.get(names.OPERATION)) is not None:
        return str(operation) in names.CALLS
    if (request := about.get(names.REQUEST_TYPE)) is not None:
        return str(request) in names.REQUESTS
    told = {names.DETAILS, names.CHOICE, names.COMPLETION_EVENT}
    return names.OUTPUT in about or any(name in told for name, _ in span.events)


def submissions(span: Span, project: str) -> list[RecordSubmittedV1]:
    """The records of a call: what was asked, then one of the answers, the first under the identity `otel-TRACE-SPAN`.

    Turns of the assistant before the answer have weight 0: each was the answer of a call of its own, or was written for
    the model to see.

    Raises:
        RecordInvalid: `failed_call`, `no_content`, `no_ids` or `invalid_field`.
    """
    if span.failed or span.attributes.get(names.ERROR):
        raise RecordInvalid("failed_call", "the span tells of a call that failed")
    if not identifies(span):
        raise RecordInvalid(
            "no_ids", "the span's trace id or span id is missing or zero, so its record has no identity"
        )
    call = next((found for way in WAYS if (found := way(span)) is not None), None)
    if call is None or not call.asked or not call.answers:
        raise RecordInvalid("no_content", NO_CONTENT)
    asked = [_shown(turn) for turn in call.asked]
    answers = list(zip(call.places or range(MAX_ANSWERS), call.answers, strict=False))[:MAX_ANSWERS]
    return [_submission(span, project, call, [*asked, answer], place) for place, answer in answers]


def identifies(span: Span) -> bool:
    """Whether a record may be named by the span's ids."""
    sizes = ((span.trace_id, 32), (span.span_id, 16))
    return all(len(id) == size and id.strip("0") for id, size in sizes)


def _shown(turn: Any) -> Any:
    given = mapping(turn)
    return {**given, "weight": 0} if ROLES.get(str(given.get("role")).lower()) == "assistant" else turn


def _submission(span: Span, project: str, call: Call, turns: list[Any], place: int) -> RecordSubmittedV1:
    # In the turns' own form already, so that nothing has to be kept beside it: the span itself is not.
    record: dict[str, Any] = {"messages": conversation(turns, "messages")}
    if (offered := tools(call.tools, "tools")) is not None:
        record["tools"] = offered
    identity = f"otel-{span.trace_id}-{span.span_id}"
    both = {**span.resource, **span.attributes}
    try:
        return RecordSubmittedV1(
            project=project,
            record_id=f"{identity}-{place}" if place else identity,
            subject=first(both, names.USERS),
            tags=_tags(both, call),
            record=record,
        )
    except ValidationError as error:
        found = error.errors(include_url=False, include_input=False)[0]
        where = ".".join(str(part) for part in found["loc"])
        raise RecordInvalid("invalid_field", f"{where}: {found['msg']}") from error


def _tags(about: Attributes, call: Call) -> dict[str, str]:
    """Where the record comes from, and what the application tags it with: attributes `noria.tag.NAME`."""
    own = {name.removeprefix(names.TAG): str(about[name]) for name in about if name.startswith(names.TAG)}
    service = first(about, (names.SERVICE,))
    named = {
        "origin": "trace",
        "model": call.model,
        "conversation": first(about, names.CONVERSATIONS),
        "service": None if service and service.startswith("unknown_service") else service,
    }
    tags = {name: value for name, value in {**own, **named}.items() if value}
    return {name: value for name, value in tags.items() if 0 < len(name) <= TAG_NAME and len(value) <= TAG_VALUE}
