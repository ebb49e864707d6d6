"""Conversations with tools as rows: a call is learnt as the base's own template writes it, and in words where it has none."""

import json
from dataclasses import replace
from pathlib import Path
from typing import Any

import pyarrow as pa
import pyarrow.parquet as pq
import pytest

from contracts.chat import unfit
from contracts.project import Prompt
from contracts.records import Record, canonical_record
from services.evaluator.compute.rows import as_shown, read
from services.evaluator.compute.rows import encode as measured
from services.ingestion.domain.validation import valid_record
from services.lm.learning import Encoded, encode_records
from services.lm.tokens import TextTokenizer, open_tokenizer
from tests.lm_bases import make_base

HERMES = """{%- if tools %}{{- '<|im_start|>system\\n' }}{%- for t in tools %}{{- t | tojson }}{%- endfor %}{{- '<|im_end|>\\n' }}
{%- endif %}
{%- for m in messages %}
{%- if m.role == 'tool' %}{{- '<|im_start|>user\\n<tool_response>\\n' + m.content + '\\n</tool_response><|im_end|>\\n' }}
{%- else %}{{- '<|im_start|>' + m.role + '\\n' + (m.content or '') }}
{%- for c in m.tool_calls or [] %}
{{- '<tool_call>\\n{"name": "' + c.function.name + '", "arguments": ' }}
{{- c.function.arguments | tojson + '}\\n</tool_call>' }}
{%- endfor %}{{- '<|im_end|>\\n' }}{%- endif %}
{%- endfor %}
{%- if add_generation_prompt %}{{- '<|im_start|>assistant\\n' + ('<think>' if enable_thinking else '') }}{%- endif %}"""
OTHERWISE = HERMES.replace("{%- for m in messages %}", "{{- messages | length }}{%- for m in messages %}")
TOOL: dict[str, Any] = {
    "type": "function",
    "function": {"name": "sky", "parameters": {"type": "object", "properties": {"hour": {}, "at": {}}}},
}
CALL: dict[str, Any] = {
    "id": "c1",
    "type": "function",
    "function": {"name": "sky", "arguments": '{"hour": 9, "at": "x"}'},
}
TURNS: list[dict[str, Any]] = [
    {"role": "user", "content": "What color?"},
    {"role": "assistant", "content": None, "tool_calls": [CALL]},
    {"role": "tool", "tool_call_id": "c1", "content": "blue"},
    {"role": "assistant", "content": "It is blue."},
]
WRITTEN = '<tool_call>\n{"name": "sky", "arguments": {"hour": 9, "at": "x"}}\n</tool_call>'


def base(folder: Path, template: str | None) -> TextTokenizer:
    make_base("smollm2", folder)
    if template:
        (folder / "chat_template.jinja").write_text(template)
    return open_tokenizer(folder)


def record(**fields: Any) -> Record:
    return valid_record(fields).record


def encode(text: TextTokenizer, *records: Record) -> Encoded:
    return encode_records(records, text, Prompt(), "all", 5000)


def learnt(text: TextTokenizer, encoded: Encoded) -> list[list[str]]:
    rows = encoded.rows
    return [[text.decode(row.ids[start:end], skip_special=False) for start, end in row.learnt] for row in rows]


@pytest.mark.parametrize("template", [HERMES, None], ids=["hermes", "words"])
def test_a_call_is_learnt_as_it_is_written_and_read(tmp_path: Path, template: str | None) -> None:
    text = base(tmp_path, template)
    assert text.template is not None
    assert text.template.tool_format == ("hermes" if template else None)
    encoded = encode(text, record(messages=TURNS, tools=[TOOL]))
    assert learnt(text, encoded) == [[f"{WRITTEN}<|im_end|>", "It is blue.<|im_end|>"]]
    shown = text.decode(encoded.rows[0].ids)
    assert '"hour": {}, "at": {}' in shown, "the tool's keys in the order they were sent"
    assert "<tool_response>\nblue\n</tool_response>" in shown


def test_the_row_is_what_transformers_makes_of_the_conversation(tmp_path: Path) -> None:
    text = base(tmp_path, HERMES)
    (row,) = encode(text, record(messages=TURNS, tools=[TOOL])).rows
    arguments = json.loads(CALL["function"]["arguments"])
    call = {**CALL, "function": {"name": "sky", "arguments": arguments}}
    turns = [TURNS[0], {"role": "assistant", "content": "", "tool_calls": [call]}, *TURNS[2:]]
    whole = text.backend.apply_chat_template(turns, tools=[TOOL], tokenize=True, return_dict=False)
    assert list(row.ids) == whole[: len(row.ids)]
    assert text.decode(whole[len(row.ids) :]) == "\n"


def test_a_template_that_writes_earlier_turns_otherwise_is_counted(tmp_path: Path) -> None:
    encoded = encode(base(tmp_path, OTHERWISE), record(messages=TURNS[:2], tools=[TOOL]))
    assert (encoded.rows, dict(encoded.left_out)) == ([], {"template_refused": 1})


def test_a_conversation_may_set_variables_of_the_template_but_not_the_renderers(tmp_path: Path) -> None:
    text = base(tmp_path, HERMES)
    turns = [TURNS[0], TURNS[3]]
    variables = {"enable_thinking": True, "tools": [TOOL], "messages": [], "add_generation_prompt": False}
    (row,) = encode(text, record(messages=turns, chat_template_kwargs=variables)).rows
    shown = text.decode(row.ids[: row.start], skip_special=False)
    assert shown == "<|im_start|>user\nWhat color?<|im_end|>\n<|im_start|>assistant\n<think>"


def test_turns_of_weight_zero_and_kinds_of_no_use_are_not_learnt(tmp_path: Path) -> None:
    text = base(tmp_path, None)
    weighed = record(
        messages=[TURNS[0], {**TURNS[3], "weight": 0}, TURNS[0], {"role": "assistant", "content": "Blue."}]
    )
    assert learnt(text, encode(text, weighed)) == [["Blue.<|im_end|>"]]
    steps = record(prompt="q", completions=["a", "b"], labels=[True, True])
    others = encode(text, steps, record(prompt="q"))
    assert (others.rows, dict(others.left_out)) == ([], {"stepwise": 1, "prompt_only": 1})
    assert unfit(steps) == "stepwise"
    assert unfit(record(prompt="q")) == "no_completion"
    assert unfit(record(messages=TURNS[:2])) is None
    assert unfit(record(messages=TURNS)) is None


@pytest.mark.parametrize("template", [HERMES, None], ids=["hermes", "words"])
@pytest.mark.parametrize("turns", [TURNS[:2], TURNS], ids=["call", "text"])
def test_what_is_measured_is_what_was_learnt(tmp_path: Path, template: str | None, turns: list[dict[str, Any]]) -> None:
    """The evaluator's row is the trainer's, and its reference what a model that learnt it answers."""
    text = base(tmp_path, template)
    found = record(messages=turns, tools=[TOOL])
    pq.write_table(pa.table({"record_id": ["r"], "record": [canonical_record(found)]}), tmp_path / "split.parquet")
    examples, skipped, _ = read(tmp_path / "split.parquet", Prompt())
    [example], refused = as_shown(examples, text)
    assert (skipped, refused) == ({}, {})
    assert example.reference == (WRITTEN if len(turns) == 2 else "It is blue.")
    row = measured(example, text, 5000, 10)
    assert row.ids == encode(text, found).rows[0].ids
    assert text.answer_text(row.prompt, row.ids[row.start :]) == example.reference
    assert replace(example, tools=None).key != example.key


@pytest.mark.parametrize("template", [HERMES, None], ids=["hermes", "words"])
def test_a_whole_prompt_stands_before_what_is_learnt_and_what_is_measured(tmp_path: Path, template: str | None) -> None:
    """System prompt from a tag, an example and tools: shown, never learnt, and the same in both services."""
    text = base(tmp_path, template)
    raw: dict[str, Any] = {
        "system": "You serve {{ team }}.",
        "variables": {"team": None},
        "examples": [{"user": "2+2", "assistant": "Four."}],
        "tools": [TOOL],
    }
    prompt = Prompt.model_validate(raw)
    found = record(messages=[*TURNS[:1], {"role": "assistant", "content": "It is blue."}])
    tags = [{"team": "sales"}, {"other": "x"}]
    records = {"record_id": ["r", "s"], "record": [canonical_record(found)] * 2, "tags": list(map(json.dumps, tags))}
    pq.write_table(pa.table(records), tmp_path / "split.parquet")
    encoded = encode_records([found] * 2, text, prompt, "all", 5000, tags)
    assert dict(encoded.left_out) == {"missing_variable": 1}
    assert learnt(text, encoded) == [["It is blue.<|im_end|>"]]
    shown = text.decode(encoded.rows[0].ids, skip_special=False)
    assert shown.index("You serve sales.") < shown.index("2+2") < shown.index("Four.") < shown.index("It is blue.")
    assert TOOL["function"]["name"] in shown
    split = read(tmp_path / "split.parquet", prompt)
    assert split.refused == {1: "missing_variable"}
    assert measured(split.examples[0], text, 5000, 10).ids == encoded.rows[0].ids
