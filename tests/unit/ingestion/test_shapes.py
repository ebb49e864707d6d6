"""Every shape that docs/data.md shows becomes what it says there, and what cannot be told apart is refused with both readings."""

import json
import re
from collections.abc import Callable
from pathlib import Path
from typing import Any, TypeVar, get_args

import pytest
from hypothesis import HealthCheck, given, settings
from hypothesis import strategies as st

from contracts.canonical import canonical
from contracts.chat import prompt_turns
from contracts.project import Ingest
from contracts.records import RecordInvalid, canonical_record, kind, parse_record
from contracts.shapes import SHAPES, ShapeName, detect
from contracts.turns import ROLES, conversation
from services.chassis.rows.reading import rows
from services.ingestion.domain.conversions import CONVERSIONS, MAX_COLUMNS, convert
from services.ingestion.domain.items import submitted
from services.ingestion.domain.policy import Policy
from services.ingestion.domain.validation import valid_record, validated
from tests.unit.contracts.values import JSON_VALUES
from tests.unit.ingestion.test_ingestion_rules import event

T = TypeVar("T")
PAGE = Path(__file__).parents[3] / "docs" / "data.md"
ROW = re.compile(r"^\| (.+?) \| (\w+) \| `(.+?)` \| `(.+?)` \| `(.+?)` \|$", re.MULTILINE)
SHOWN = [(name, shape, *map(json.loads, cells)) for name, shape, *cells in ROW.findall(PAGE.read_text())]
USER, SAID = {"role": "user", "content": "q"}, {"role": "assistant", "content": "a"}


def nested(levels: int) -> Any:
    """Lists in each other, the innermost with a number."""
    value: Any = 1
    for _ in range(levels):
        value = [value]
    return value


@pytest.mark.parametrize(("shape", "raw", "record", "tags"), [row[1:] for row in SHOWN], ids=[row[0] for row in SHOWN])
def test_what_the_page_shows_is_so(shape: str, raw: Any, record: Any, tags: Any) -> None:
    assert convert(raw) == (shape, record, tags)
    typed = valid_record(raw).record
    assert (
        typed.model_dump(mode="json")
        == record
        == parse_record(json.loads(canonical_record(typed)))[1].model_dump(mode="json")
    )
    assert canonical_record(typed) == canonical(record)


@pytest.mark.parametrize(("name", "shapes"), [("sharegpt.json", ["sharegpt"] * 2), ("openai.jsonl", ["messages"] * 2)])
def test_the_tutorials_files_are_taken(name: str, shapes: list[str]) -> None:
    found = [valid_record(json.loads(row.json)) for row in rows(PAGE.parent / "examples" / "shapes" / name)]
    assert [each.shape for each in found] == shapes
    assert [turn.role for turn in prompt_turns(found[1].record)] in (["user"], ["user", "assistant", "tool"])


def test_the_page_shows_every_shape() -> None:
    assert (
        {shape for _, shape, *_ in SHOWN}
        == {shape.name for shape in SHAPES}
        == set(get_args(ShapeName))
        == set(CONVERSIONS)
    )
    assert len(SHOWN) > 30


def test_what_is_nested_less_deep_is_written_and_read_again() -> None:
    sent = {"text": "t", "more": nested(62)}
    accepted = event(sent)
    assert type(accepted).model_validate_json(accepted.to_bytes()) == accepted
    assert valid_record(sent).sent == sent


def test_an_empty_prompt_is_not_given() -> None:
    sides = {"chosen": [USER, SAID], "rejected": [USER, {**SAID, "content": "b"}]}
    assert valid_record({"prompt": "", **sides, "tools": [], "system": ""}).record == valid_record(sides).record


def test_a_name_that_holds_another_is_not_misspelt() -> None:
    assert valid_record({"messages": [USER, SAID], "prompt_id": "7", "conversation": "c1"}).tags == {
        "prompt_id": "7",
        "conversation": "c1",
    }
    assert valid_record({"instruction": "q", "output": "a", "response_id": 7}).tags == {"response_id": "7"}


@pytest.mark.parametrize(
    ("content", "said"),
    [
        ({"temp": 3}, '{"temp": 3}'),
        ([1, {"a": "é"}], '[1, {"a": "é"}]'),
        (3, "3"),
        ([{"type": "text", "text": "x"}], "x"),
        ("x", "x"),
    ],
)
def test_what_a_tool_gives_back_is_shown_as_json(content: Any, said: str) -> None:
    call = {"role": "assistant", "tool_calls": [{"name": "f", "arguments": {}}]}
    record = convert({"messages": [USER, call, {"role": "tool", "content": content}, SAID]}).record
    assert record["messages"][2] == {"role": "tool", "content": said, "tool_call_id": "call_0"}


def test_what_was_sent_is_kept_where_record_and_tags_do_not_give_it_back() -> None:
    alpaca: dict[str, Any] = {"instruction": "q", "output": "a"}
    assert (valid_record(alpaca).shape, valid_record(alpaca).sent) == ("alpaca", alpaca)
    assert valid_record({"prompt": "q", "completion": "a", "tool": "tar", "label": None}).sent is None
    numbered = {"prompt": "q", "completion": "a", "score": 3}
    assert (valid_record(numbered).tags, valid_record(numbered).sent) == ({"score": "3"}, numbered)
    assert valid_record({"messages": [USER, SAID]}).sent is None


@pytest.mark.parametrize(
    ("raw", "code", "words"),
    [
        ({"messages": [USER, SAID], "text": "other"}, "ambiguous", r"messages \(messages\) or text \(text\)"),
        ({"prompt": "q", "response": "a"}, "ambiguous", "prompt_only with a further column 'response'"),
        ({"prompt": "q", "answer": "a"}, "ambiguous", "'answer'"),
        ({"prompt": "Yes or no?", "response": "no"}, "ambiguous", "'response'"),
        ({"prompt": "tar", "response": "tar -t"}, "ambiguous", "'response'"),
        ({"messages": [USER, SAID], "label": "a"}, "ambiguous", "'label'"),
        ({"prompt": "tar", "text": "tar -t"}, "ambiguous", "'text'|prompt_only"),
        ({"instruction": "q", "output": "a", "prompt": "b"}, "ambiguous", "alpaca .* or prompt_only"),
        ({"text": "t", "label": 1}, "ambiguous", "'label'"),
        ({"messages": [USER, SAID], "label": False}, "ambiguous", "'label'"),
        ({"instruction": "q", "output": "a", "response": "b"}, "ambiguous", r"alpaca .* or dolly"),
        ({"messages": [{"role": "system", "content": "x"}, SAID], "system": "y"}, "ambiguous", "first turn"),
        ({"prompt": "q", "complation": "a"}, "unknown_format", "did you mean 'completion'"),
        ({"question": "q", "answer": "a"}, "unknown_format", "ingest"),
        ({"text": "t", "system_prompt": "x"}, "ambiguous", "'system'"),
        ({"prompt": "q", "completion": "a", "label": "bad"}, "invalid_field", "label"),
        ({"chosen": "same", "rejected": "same"}, "invalid_field", "the same"),
        ({"chosen": "one", "rejected": "two"}, "invalid_field", "share no beginning"),
        ({"prompt": "q", "completions": ["a"], "labels": []}, "invalid_field", "0 verdicts on 1"),
        ({"messages": [{"role": "robot", "content": "x"}]}, "invalid_field", "'robot'"),
        ({"messages": [{"role": "user", "contents": "x"}]}, "invalid_field", "did you mean 'content'"),
        ({"messages": [{"role": "user", "content": [{"type": "image_url"}]}]}, "unsupported_content", "image_url"),
        ({"messages": [USER, {**SAID, "audio": {"id": "x"}}]}, "unsupported_content", "audio"),
        ({"messages": [USER, {**SAID, "weight": 2}]}, "invalid_field", "0 or 1"),
        ({"messages": [USER, {"role": "assistant", "tool_calls": [{"name": "f", "arguments": "{"}]}]}, "invalid_field", "JSON"),
        ({"messages": [USER, {"role": "assistant", "tool_calls": [{"type": "custom"}]}]}, "invalid_field", "no call"),
        ({"messages": [USER, SAID], "tools": "[1"}, "invalid_field", "tools"),
        ({"messages": [USER, SAID], "tools": [{"type": "web_search"}]}, "invalid_field", "no tool"),
        ({"messages": [USER, SAID], "chat_template_kwargs": {"x": float("inf")}}, "invalid_field", "double"),
        ({f"c{i}": 1 for i in range(MAX_COLUMNS + 1)}, "too_many_columns", "at most 1000"),
        ({"messages": [USER, SAID], "tools": "[" * 100_000}, "invalid_field", "deep"),
        ({"messages": [USER, SAID], "chat_template_kwargs": '{"a": "\\ud800"}'}, "invalid_field", "surrogate"),
        ({"messages": [USER, SAID], "tools": '[{"name": "\\ud800"}]'}, "invalid_field", "surrogate"),
        ({"messages": [USER, SAID], "tools": "[" * 900 + "]" * 900}, "invalid_field", "64 levels"),
        ({"text": "t", "more": nested(64)}, "too_deep", "64 levels"),
        ({"text": "t", "more": nested(900)}, "too_deep", "64 levels"),
        ({"prompt": " "}, "empty", "prompt"),
        ({"prompt": "q", "completion": ""}, "empty", "completion"),
        ({"instruction": "q", "output": ""}, "empty", "completion"),
    ],
)  # fmt: skip
def test_what_is_refused_says_why(raw: Any, code: str, words: str) -> None:
    with pytest.raises(RecordInvalid, match=words) as refused:
        valid_record(raw)
    assert refused.value.code == code


COLUMNS: dict[str, str] = {"prompt": "question", "completion": "answer", "record_id": "id", "subject": "who"}
FAQ: dict[str, Any] = {"question": "q", "answer": "a", "id": 7, "who": "ann", "label": 3, "topic": "tar"}


def test_plain_columns_are_read_by_the_projects_mapping() -> None:
    sent = submitted("p", FAQ, Policy(columns=COLUMNS))
    assert (sent.record_id, sent.subject, sent.record) == ("7", "ann", FAQ)
    found = validated(sent, COLUMNS)
    assert found.record.model_dump() == {"prompt": "q", "completion": "a"}
    assert found.tags == {"label": "3", "topic": "tar"}
    assert found.became.sent == FAQ
    with pytest.raises(RecordInvalid, match="'answer'") as refused:
        validated(event({"question": "q"}), COLUMNS)
    assert refused.value.code == "missing_column"
    assert validated(event({"messages": [USER, SAID]}), COLUMNS).format == "messages"


def test_a_mapping_that_fits_nothing_is_named_with_its_columns() -> None:
    with pytest.raises(RecordInvalid, match="the project maps") as refused:
        validated(event({"Question": "q", "Reply": "a"}), COLUMNS)
    assert refused.value.code == "unknown_format"
    assert "'question', 'answer'" in str(refused.value)
    assert "record has the columns Question, Reply" in str(refused.value)


@pytest.mark.parametrize("what", ["prompt", "completion"])
def test_a_text_of_a_megabyte_is_refused_with_how_long_it_may_be(what: str) -> None:
    html = "<html><body>" + "<p class='x'>ä &amp; b</p>\n" * 40_000
    with pytest.raises(RecordInvalid, match=rf"record\.{what}.*100000 characters") as refused:
        validated(event({"prompt": "q", "completion": "a"} | {what: html}))
    assert refused.value.code == "invalid_field"
    turns = [{"role": role, "content": html[:90_000]} for role in ("user", "assistant") * 6]
    with pytest.raises(RecordInvalid, match="at most 900000 are taken") as refused:
        validated(event({"messages": turns}))
    assert refused.value.code == "too_large"
    [held] = validated(event({"messages": turns[:2]})).record.model_dump()["messages"][:1]
    assert held["content"] == turns[0]["content"]


@pytest.mark.parametrize(
    "columns", [{"prompt": "x", "label": "y"}, {"system": "x"}, {"prompt": "x", "completion": "x"}]
)
def test_a_mapping_that_makes_no_shape_is_refused(columns: Any) -> None:
    with pytest.raises(ValueError, match="columns"):
        Ingest(columns=columns)


def test_tags_that_were_given_win_and_there_are_fifty_at_most() -> None:
    many = {"text": "t", **{f"c{i:03}": i for i in range(60)}}
    assert len(validated(event(many)).tags) == 50
    assert validated(event({"text": "t", "tool": "ls"}, tags={"tool": "tar"})).tags == {"tool": "tar"}


COLUMN = st.sampled_from(
    sorted({name for shape in SHAPES for name in shape.columns} | {"answer", "topic", "complation"})
)
TURN = st.fixed_dictionaries(
    {"role": st.sampled_from(sorted(ROLES)), "content": st.text(max_size=5)},
    optional={"weight": st.sampled_from([0, 1, None]), "name": st.text(max_size=3), "tool_calls": JSON_VALUES},
)
VALUES = JSON_VALUES | st.text() | st.lists(TURN, max_size=3)


def outcome(work: Callable[[dict[str, Any]], T], raw: dict[str, Any]) -> tuple[str | None, T | None]:
    """The code of the refusal, or the result."""
    try:
        return None, work(raw)
    except RecordInvalid as error:
        return error.code, None


@settings(deadline=None, suppress_health_check=[HealthCheck.too_slow])
@given(st.dictionaries(COLUMN, VALUES, max_size=6))
def test_any_row_becomes_a_record_or_is_refused_by_name(raw: dict[str, Any]) -> None:
    code, found = outcome(valid_record, raw)
    assert code in {None, "unknown_format", "ambiguous", "invalid_field", "unsupported_content", "empty"}
    if found is None:
        return
    written = json.loads(canonical_record(found.record))
    assert parse_record(written) == (found.format, found.record)
    assert kind(found.record)
    if found.shape != "prompt_only":  # its blank completion is nothing to learn where it is given
        assert valid_record(written).record == found.record


@given(st.sets(COLUMN, max_size=6))
def test_a_row_has_one_reading_or_none(names: set[str]) -> None:
    """Columns that all say something else: nothing that a shape reads is passed over."""
    row = {name: f"says {name}" for name in sorted(names)}
    code, shape = outcome(detect, row)
    assert code in (None, "unknown_format", "ambiguous")
    if shape is None:
        return
    assert shape.needs <= names
    assert names & {name for each in SHAPES for name in each.columns} <= shape.columns


@given(st.lists(TURN.map(lambda turn: {k: v for k, v in turn.items() if k != "tool_calls"}), min_size=1, max_size=4))
def test_a_conversation_is_a_fixed_point(turns: list[dict[str, Any]]) -> None:
    try:
        once = conversation(turns, "messages")
    except RecordInvalid:
        return
    assert conversation(once, "messages") == once
