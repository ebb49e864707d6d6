"""What a template writes before and behind an answer."""

import json
from pathlib import Path

import pytest

from services.lm.control_tokens import ControlVocabulary
from services.lm.errors import TemplateRefused
from services.lm.template import compile_template
from services.lm.tokens import open_tokenizer
from services.lm.turns import TurnFormat, turn_format
from tests.lm_bases import make_base

VOCABULARY = ControlVocabulary(frozenset({"<end>", "</s>", "<user>", "<bot>"}))
EACH = (
    "{% for m in messages %}{{ '<user>' + m.content if m.role == 'user' else '<bot>' + m.content + END }}{% endfor %}"
)
PROMPT = "{% if add_generation_prompt %}<bot>{% endif %}"


def found(source: str, end: str = "'<end>'") -> TurnFormat:
    return turn_format(compile_template(source.replace("END", end), {}, VOCABULARY))


def test_a_turn_ends_with_its_first_control_token() -> None:
    assert found(EACH + PROMPT) == TurnFormat("", "<end>")
    assert found(EACH + PROMPT, "'\\n<end></s>\\n'") == TurnFormat("", "<end>"), "nobody wrote the line break"


def test_without_one_it_ends_with_eos() -> None:
    assert found(EACH + PROMPT, "'\\n'") == TurnFormat("", "")


def test_blanks_before_an_answer_belong_to_it_and_thoughts_do_not() -> None:
    assert found(EACH.replace("'<bot>' +", "'<bot> ' +") + PROMPT) == TurnFormat(" ", "<end>")
    assert found(EACH.replace("'<bot>' +", "'<bot><think></think>' +") + PROMPT) == TurnFormat("", "<end>")
    assert found(EACH + PROMPT.replace("<bot>", "<bot><think>")) == TurnFormat("", "<end>")


def test_a_template_that_wants_the_last_word_of_a_user_is_asked_so() -> None:
    last = "{% if not add_generation_prompt and messages[-1].role != 'user' %}{{ raise_exception('last') }}{% endif %}"
    assert found(last + EACH + PROMPT) == TurnFormat("", "<end>")


def test_a_template_without_answers_is_refused() -> None:
    with pytest.raises(TemplateRefused, match="leaves an assistant's answer out"):
        found("{% for m in messages %}{{ m.content if m.role == 'user' }}{% endfor %}")


@pytest.mark.parametrize("named", [1, [1, 2]])
def test_an_answer_also_ends_with_what_the_generation_configuration_names(
    tmp_path: Path, named: int | list[int]
) -> None:
    base = make_base("llama3", tmp_path)
    own = open_tokenizer(base).ends
    (base / "config.json").write_text(json.dumps({"eos_token_id": 3}))
    assert open_tokenizer(base).ends == own | {3}
    (base / "generation_config.json").write_text(json.dumps({"eos_token_id": named}))
    assert open_tokenizer(base).ends == own | set(named if isinstance(named, list) else [named])
