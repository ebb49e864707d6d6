"""Chat templates render as in transformers."""

from typing import Any

import pytest

from services.serving.domain.template import TemplateRefused, compile_template
from tests.unit.serving.builders import template

TURNS = [{"role": "system", "content": "S é"}, {"role": "user", "content": "<b> & 'q'"}]


def render(source: str, turns: list[dict[str, Any]] | None = None) -> str:
    return template(source).render(turns or TURNS)


def test_blocks_are_trimmed_and_tokens_are_variables() -> None:
    assert render("  {% for m in messages %}\n{{ m.content }}{{ eos_token }}\n  {% endfor %}\n") == (
        "S é<|im_end|>\n<b> & 'q'<|im_end|>\n"
    )


def test_tojson_does_not_escape_html() -> None:
    assert render("{{ messages[1].content | tojson }}") == "\"<b> & 'q'\""


def test_loop_controls_and_generation_blocks_are_known() -> None:
    assert (
        render("{% for m in messages %}{% generation %}{{ m.role }}{% endgeneration %}{% break %}{% endfor %}")
        == "system"
    )


def test_a_template_may_refuse_messages() -> None:
    with pytest.raises(TemplateRefused, match="roles must alternate"):
        render("{{ raise_exception('roles must alternate') }}")


@pytest.mark.parametrize(
    "source",
    [
        "{{ ''.__class__.__mro__[1].__subclasses__() }}",
        "{{ messages.append(1) }}",
        "{% set ns = namespace() %}{% set ns.__class__ = 1 %}",
        "{{ 'a' * 3000000 }}",
    ],
)
def test_the_sandbox_holds(source: str) -> None:
    with pytest.raises(TemplateRefused):
        render(source)


def test_the_default_of_named_templates_counts() -> None:
    named = [{"name": "tool_use", "template": "t"}, {"name": "default", "template": "d{{ bos_token }}"}]
    config = {"chat_template": named, "bos_token": {"content": "<s>", "lstrip": False}}
    assert compile_template(config).render(TURNS) == "d<s>"


@pytest.mark.parametrize("config", [{}, {"chat_template": []}, {"chat_template": "{% for %}"}])
def test_a_missing_or_broken_template_is_said(config: dict[str, Any]) -> None:
    with pytest.raises(TemplateRefused):
        compile_template(config)


SOURCES = {
    "namespace": "{% set ns = namespace(n=0) %}{% for m in messages %}{% set ns.n = ns.n + 1 %}{{ ns.n }}{% endfor %}",
    "strip": "{%- for m in messages -%}\n  {{- m['content'] | trim + '\\n' -}}\n{%- endfor %}",
    "tools": "{% if tools is not none %}T{% endif %}{{ messages[0]['role'] }}{{ messages | length }}",
    "absent": "{{ unk_token }}|{{ messages[0].get('name', 'none') }}",
    "smollm2": (
        "{% for message in messages %}{% if loop.first and messages[0]['role'] != 'system' %}"
        "{{ '<|im_start|>system\nYou are a helpful AI assistant named SmolLM, trained by Hugging Face<|im_end|>\n' }}"
        "{% endif %}{{'<|im_start|>' + message['role'] + '\n' + message['content'] + '<|im_end|>' + '\n'}}{% endfor %}"
        "{% if add_generation_prompt %}{{ '<|im_start|>assistant\n' }}{% endif %}"
    ),
    "json": "{{ messages | tojson(indent=2) }}{{ dict(a=1) }}",
}


@pytest.mark.parametrize("source", SOURCES.values(), ids=SOURCES.keys())
def test_it_renders_as_transformers_does(source: str) -> None:
    from transformers.utils.chat_template_utils import render_jinja_template

    theirs, _ = render_jinja_template([TURNS], chat_template=source, add_generation_prompt=True, eos_token="<|im_end|>")
    assert render(source) == theirs[0]
