"""A generation in OpenTelemetry's words."""

from typing import Any

import pytest
from opentelemetry.semconv._incubating.attributes import gen_ai_attributes

from services.serving.domain.answers import Usage
from services.serving.domain.asked import Asked
from services.serving.domain.generation_span import generation
from services.serving.domain.record import Progress
from tests.unit.serving.builders import target

SECRET = "what the user wrote"


@pytest.mark.parametrize(
    ("endpoint", "operation"), [("chat.completions", "chat"), ("completions", "text_completion"), ("responses", "chat")]
)
def test_each_endpoint_is_an_operation(endpoint: Any, operation: str) -> None:
    name, attributes = generation(Asked(endpoint, "shop"), "id", target(), Progress())
    assert (name, attributes["gen_ai.operation.name"]) == (f"{operation} shop", operation)


def test_a_generation_has_the_names_of_the_conventions_and_no_text() -> None:
    asked = Asked(
        "chat.completions",
        "shop",
        ({"role": "user", "content": SECRET},),
        stream=True,
        max_tokens=9,
        seed=4,
        stop=("x",),
    )
    progress = Progress(SECRET, "stop", Usage(5, 2), 0.25)
    name, attributes = generation(asked, "chatcmpl-1", target("shop", 2), progress)
    assert name == "chat shop"
    assert attributes["gen_ai.response.model"] == "shop@2"
    assert attributes["gen_ai.usage.output_tokens"] == 2
    assert attributes["gen_ai.response.finish_reasons"] == ["stop"]
    assert attributes["gen_ai.response.time_to_first_chunk"] == 0.25
    assert SECRET not in str(attributes)
    assert "gen_ai.request.temperature" not in attributes, "what was not given is not told"
    known = {
        value for key, value in vars(gen_ai_attributes).items() if key.startswith("GEN_AI_") and isinstance(value, str)
    }
    newer = {"gen_ai.request.stream", "gen_ai.response.time_to_first_chunk"}
    assert attributes.keys() <= known | newer
