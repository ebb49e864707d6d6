"""A generation as OpenTelemetry's GenAI conventions name it. Pure; no text of anybody is in it.

https://github.com/open-telemetry/semantic-conventions, docs/gen-ai/gen-ai-spans.md ("Inference") at commit
7b0c0fe1e6d7b7fc857ba496aad7919e368453e7: the last one there before the conventions moved to a repository of their own.
"""

from services.chassis.endpoints.hosts import host_of
from services.serving.domain.asked import Asked
from services.serving.domain.record import Progress
from services.serving.domain.routing import Target

PROVIDER = "triton"
OPERATIONS = {"chat.completions": "chat", "completions": "text_completion", "responses": "chat"}


def generation(
    asked: Asked, id: str, target: Target, progress: Progress
) -> tuple[str, dict[str, str | bool | int | float | list[str]]]:
    """Name and attributes of the span of a request that the model was asked."""
    operation = OPERATIONS[asked.endpoint]
    attributes: dict[str, str | bool | int | float | list[str] | None] = {
        "gen_ai.operation.name": operation,
        "gen_ai.provider.name": PROVIDER if target.teacher is None else host_of(target.teacher.url),
        "gen_ai.request.model": asked.model,
        "gen_ai.request.stream": asked.stream,
        "gen_ai.request.max_tokens": asked.max_tokens,
        "gen_ai.request.temperature": asked.temperature,
        "gen_ai.request.top_p": asked.top_p,
        "gen_ai.request.top_k": asked.extras.get("top_k"),
        "gen_ai.request.seed": asked.seed,
        "gen_ai.request.stop_sequences": list(asked.stop) or None,
        "gen_ai.request.frequency_penalty": asked.penalties.get("frequency_penalty"),
        "gen_ai.request.presence_penalty": asked.penalties.get("presence_penalty"),
        "gen_ai.response.id": id,
        "gen_ai.response.model": target.name if target.teacher is None else target.teacher.model,
        "gen_ai.response.finish_reasons": [progress.finish_reason] if progress.finish_reason else None,
        "gen_ai.response.time_to_first_chunk": progress.first_token if asked.stream else None,
        "gen_ai.usage.input_tokens": progress.usage.prompt_tokens,
        "gen_ai.usage.output_tokens": progress.usage.completion_tokens,
    }
    return f"{operation} {asked.model}", {name: value for name, value in attributes.items() if value is not None}
