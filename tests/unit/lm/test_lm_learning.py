"""Records as rows: what is learnt, what is cut, what is left out and counted."""

from pathlib import Path
from typing import Any

import pytest

from contracts.project import Learn, Prompt
from contracts.records import Record, parse_record
from services.lm.learning import Encoded, encode_records
from services.lm.tokens import TextTokenizer, open_tokenizer
from tests.lm_bases import make_base


@pytest.fixture(scope="module")
def tokenizer(tmp_path_factory: pytest.TempPathFactory) -> TextTokenizer:
    return open_tokenizer(make_base("smollm2", tmp_path_factory.mktemp("base")))


def record(**fields: object) -> Record:
    return parse_record(fields)[1]


def turn(role: str, content: str) -> dict[str, str]:
    return {"role": role, "content": content}


TURNS = [turn("user", "first"), turn("assistant", "one"), turn("user", "second"), turn("assistant", "two")]
CHAT = record(messages=TURNS)


def encode(tokenizer: TextTokenizer, *records: Record, learn: Learn = "all", most: int = 500, **prompt: Any) -> Encoded:
    return encode_records(records, tokenizer, Prompt(**prompt), learn, most)


def learnt(tokenizer: TextTokenizer, encoded: Encoded) -> list[list[str]]:
    return [
        [tokenizer.decode(row.ids[start:end], skip_special=False) for start, end in row.learnt] for row in encoded.rows
    ]


def test_all_answers_with_their_ends_are_learnt_or_the_last_alone(tokenizer: TextTokenizer) -> None:
    assert learnt(tokenizer, encode(tokenizer, CHAT)) == [["one<|im_end|>", "two<|im_end|>"]]
    assert learnt(tokenizer, encode(tokenizer, CHAT, learn="last")) == [["two<|im_end|>"]]


def test_the_rest_is_what_the_model_is_shown(tokenizer: TextTokenizer) -> None:
    (row,) = encode(tokenizer, CHAT, system="Be brief.").rows
    shown = tokenizer.prompt([turn("system", "Be brief."), *TURNS[:3]]).ids
    assert row.ids[: row.learnt[-1][0]] == shown
    assert "Be brief." in tokenizer.decode(shown)


def test_prompt_and_completion_equal_the_conversation(tokenizer: TextTokenizer) -> None:
    pair = record(prompt="list", completion="ls")
    chat = record(messages=[turn("user", "list"), turn("assistant", "ls")])
    assert encode(tokenizer, pair) == encode(tokenizer, chat)


def test_earlier_answers_of_a_prompt_are_shown_and_not_learnt(tokenizer: TextTokenizer) -> None:
    given = record(prompt=TURNS[:3], completion=[TURNS[3]])
    assert learnt(tokenizer, encode(tokenizer, given)) == [["two<|im_end|>"]]


def test_text_is_learnt_whole_but_for_its_first_token(tokenizer: TextTokenizer) -> None:
    (row,) = encode(tokenizer, record(text="abc"), system="unused").rows
    assert (tokenizer.decode(row.ids, skip_special=False), row.learnt) == ("abc<|im_end|>", ((1, len(row.ids)),))


def test_what_cannot_be_learnt_is_left_out_and_counted(tokenizer: TextTokenizer) -> None:
    encoded = encode(
        tokenizer,
        CHAT,
        record(prompt="x" * 200, completion="y"),
        record(prompt="p", completion="z" * 200),
        record(prompt="p", chosen="a", rejected="b"),
        record(prompt="p", completion="c", label=False),
        record(prompt="p", completion=" "),
        record(messages=[turn("user", "unanswered")]),
        record(text=" "),
        most=150,
    )
    assert [len(row.ids) <= 150 for row in encoded.rows] == [True, True]
    assert encoded.cut == 1
    assert encoded.left_out == {"answer_cut_off": 1, "preference": 1, "undesirable": 1, "no_completion": 3}


def test_what_a_template_or_a_tokenizer_refuses_is_left_out_and_counted(tmp_path: Path) -> None:
    strict = open_tokenizer(make_base("gemma", tmp_path / "gemma"))
    plain = open_tokenizer(make_base("gpt2", tmp_path / "gpt2"))
    forged = record(messages=[turn("user", "\U000f0000<end_of_turn>"), TURNS[1]])
    odd = [record(messages=[turn("system", "s"), *TURNS]), record(messages=TURNS[1:]), forged, CHAT]
    assert encode(strict, *odd).left_out == {"template_refused": 2, "control_tokens": 1}
    assert len(encode(strict, *odd).rows) == 1
    assert encode(plain, CHAT, record(prompt="p", completion="c")).left_out == {"no_chat_template": 1}


def test_a_conversation_is_learnt_as_far_as_it_fits(tokenizer: TextTokenizer) -> None:
    whole = encode(tokenizer, CHAT).rows[0]
    (row,) = encode(tokenizer, CHAT, most=whole.learnt[1][0]).rows
    assert row.learnt == whole.learnt[:1]


def test_a_turn_behind_the_end_is_counted_where_each_turn_is_a_row_too(tmp_path: Path) -> None:
    apart = open_tokenizer(make_base("llama2", tmp_path))
    first, second = encode(apart, CHAT).rows
    encoded = encode(apart, CHAT, most=len(first.ids))
    assert len(second.ids) > len(first.ids)
    assert (encoded.rows, encoded.cut, encoded.left_out) == ([first], 1, {})
