"""A request and its answer as the event that feedback and monitoring live on. Knows no spool."""

from dataclasses import dataclass, field
from typing import Any, Literal

from contracts.events.serving import InferenceCompletedV1, TeacherAnswer
from services.chassis.endpoints.hosts import host_of
from services.serving.domain.answers import Usage
from services.serving.domain.asked import Asked
from services.serving.domain.routing import Target
from services.serving.domain.token_scores import Score

Outcome = Literal["ok", "error", "cancelled"]


@dataclass(slots=True)
class Progress:
    """What has been answered so far; `first_token` in seconds after the request came."""

    text: str = ""
    finish_reason: str | None = None
    usage: Usage = field(default_factory=Usage)
    first_token: float | None = None
    scores: list[Score] = field(default_factory=list[Score])
    echo: str = ""
    """The prompt, where the answer's text begins with it."""
    echoed: list[Score] = field(default_factory=list[Score])
    attempts: int = 0
    """Times that a teacher was asked."""
    estimated: bool = False
    """Whether the usage is a guess: the teacher did not tell it."""


def inference(
    request_id: str,
    asked: Asked,
    target: Target,
    progress: Progress,
    outcome: Outcome,
    error: str | None,
    seconds: float,
) -> InferenceCompletedV1:
    """The event of a request: what the client sent (without the project's prompt), what it got, and how it ended.

    A request with `store: false` is counted: nothing that anybody wrote is in its event.
    """
    return InferenceCompletedV1(
        project=target.model.name,
        request_id=request_id,
        model=target.model,
        endpoint="completions" if asked.endpoint == "completions" else "chat.completions",  # a response is a chat
        messages=asked.messages if asked.store else None,
        prompt=asked.prompt if asked.store else None,
        prompt_version=target.prompt_version,
        prompt_variables=dict(asked.wanted_prompt.variables) or None if asked.store and asked.wanted_prompt else None,
        parameters=_parameters(asked) if asked.store else {},
        stream=asked.stream,
        user=asked.user if asked.store else None,
        metadata=dict(asked.metadata) if asked.store and asked.metadata else None,
        stored=asked.store,
        output=progress.text if asked.store else "",
        finish_reason=progress.finish_reason,
        prompt_tokens=progress.usage.prompt_tokens,
        completion_tokens=progress.usage.completion_tokens,
        time_to_first_token=progress.first_token,
        seconds=seconds,
        status=outcome,
        error=error if asked.store or error is None else error.partition(":")[0],
        teacher=_teacher(target, progress),
    )


def _teacher(target: Target, progress: Progress) -> TeacherAnswer | None:
    """Who answered and for how much, where that was a teacher."""
    if (teacher := target.teacher) is None:
        return None
    return TeacherAnswer(
        model=teacher.model,
        host=host_of(teacher.url),
        cost=teacher.cost(progress.usage.prompt_tokens, progress.usage.completion_tokens),
        currency=teacher.price.currency if teacher.price else None,
        estimated=progress.estimated,
        attempts=progress.attempts,
    )


def _parameters(asked: Asked) -> dict[str, Any]:
    """What the request set; a prompt of token ids too, whose text only the model's own tokenizer knows."""
    return {**asked.parameters, **({"prompt_token_ids": list(asked.token_ids)} if asked.token_ids else {})}
