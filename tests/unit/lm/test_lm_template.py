"""Chat templates as transformers renders them, found in a model's files, in bounds."""

import json
from pathlib import Path
from typing import Any

import pytest

from services.lm.errors import TemplateRefused
from services.lm.template import read_template
from tests.unit.serving.builders import template

TURNS = [{"role": "system", "content": "S é"}, {"role": "user", "content": "<b> & 'q'"}]


def render(source: str, turns: list[dict[str, Any]] | None = None) -> str:
    return template(source).render(turns or TURNS).text


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


def write(directory: Path, config: dict[str, Any], template: str | None = None) -> Path:
    (directory / "tokenizer_config.json").write_text(json.dumps(config))
    if template is not None:
        (directory / "chat_template.jinja").write_text(template)
    return directory


def test_the_default_of_named_templates_counts(tmp_path: Path) -> None:
    named = [{"name": "tool_use", "template": "t"}, {"name": "default", "template": "d{{ bos_token }}"}]
    found = read_template(write(tmp_path, {"chat_template": named, "bos_token": {"content": "<s>", "lstrip": False}}))
    assert found is not None
    assert found.render(TURNS).text == "d<s>"


@pytest.mark.parametrize("config", [{}, {"chat_template": []}])
def test_a_base_may_have_no_template(tmp_path: Path, config: dict[str, Any]) -> None:
    assert read_template(write(tmp_path, config)) is None


def test_a_broken_template_is_said(tmp_path: Path) -> None:
    with pytest.raises(TemplateRefused, match="line 2"):
        read_template(write(tmp_path, {}, "x\n{% for %}"))


def test_its_own_file_comes_before_the_configuration(tmp_path: Path) -> None:
    found = read_template(write(tmp_path, {"chat_template": "old"}, "new"))
    assert found is not None
    assert found.source == "new"


def test_special_tokens_are_variables_and_generation_marks_are_transparent() -> None:
    assert render("{% generation %}{{ eos_token }}|{{ unk_token }}{% endgeneration %}") == "<|im_end|>|"
