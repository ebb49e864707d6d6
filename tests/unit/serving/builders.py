"""Small values for serving's tests."""

from datetime import UTC, datetime
from typing import Any

from contracts.project import Prompt, Serve
from contracts.types import ModelRef
from services.lm.control_tokens import ControlVocabulary
from services.lm.template import ChatTemplate, Rendered, compile_template
from services.serving.domain.asked import Asked
from services.serving.domain.requests import parse_chat
from services.serving.domain.routing import Target
from services.serving.domain.sampling import prompt_text

CHATML = (
    "{% for message in messages %}{{ '<|im_start|>' + message['role'] + '\\n' + message['content'] + eos_token }}\n"
    "{% endfor %}{% if add_generation_prompt %}<|im_start|>assistant\n{% endif %}"
)


VOCABULARY = ControlVocabulary(frozenset({"<|im_start|>", "<|im_end|>"}))


def template(source: str = CHATML) -> ChatTemplate:
    return compile_template(source, {"eos_token": "<|im_end|>"}, VOCABULARY)


class TemplatesHere:
    """Renders in this process, without its bounds."""

    async def prompt_text(self, asked: Asked, target: Target) -> Rendered:
        return prompt_text(asked, target)


def target(project: str = "shop", version: int = 1, **changes: Any) -> Target:
    values: dict[str, Any] = {
        "model": ModelRef(name=project, version=version),
        "triton_model": "base-0123456789ab",
        "lora": f"{project}-v{version}" if version else None,
        "fingerprint": "fp_0011223344556677",
        "template": template(),
        "model_length": 128,
        "prompt": Prompt(system="Be brief."),
        "serve": Serve(max_tokens=16),
        "deployed_at": datetime(2026, 1, 31, tzinfo=UTC),
    }
    return Target(**(values | changes))


def chat(extra: str = "", messages: str = '[{"role":"user","content":"hi"}]') -> Asked:
    return parse_chat(f'{{"model":"shop","messages":{messages}{extra}}}'.encode())
