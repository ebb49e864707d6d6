"""A record is read for comparing as training, evaluation and serving read it."""

import json
from typing import Any

from hypothesis import given, settings
from hypothesis import strategies as st

from contracts.chat import completion_text, prompt_turns, said
from contracts.records import canonical_record, kind, parse_record
from services.prep.domain.reading import read

TEXT = st.text("ab \n\u00e9", max_size=6)
CALL = st.builds(
    lambda n: {"id": "c", "type": "function", "function": {"name": n, "arguments": '{"a": 1}'}}, st.sampled_from("fg")
)
TURN = st.one_of(
    st.builds(lambda role, text: {"role": role, "content": text}, st.sampled_from(["system", "user", "tool"]), TEXT),
    st.builds(
        lambda text, weight: {"role": "assistant", "content": text, **weight},
        TEXT,
        st.sampled_from([{}, {"weight": 0}]),
    ),
    st.builds(lambda text, call: {"role": "assistant", "content": text, "tool_calls": [call]}, TEXT, CALL),
)
SAID = st.one_of(TEXT, st.lists(TURN, min_size=1, max_size=5))
FURTHER = st.sampled_from([{}, {"tools": '[{"type":"function","function":{"name":"f"}}]'}])
RECORD = st.one_of(
    st.builds(lambda turns, more: {"messages": turns, **more}, st.lists(TURN, min_size=1, max_size=5), FURTHER),
    st.builds(lambda p, c, more: {"prompt": p, "completion": c, **more}, SAID, SAID, FURTHER),
    st.builds(lambda p, c, r: {"prompt": p, "chosen": c, "rejected": r}, SAID, SAID, SAID),
    st.builds(lambda p, c: {"prompt": p, "completion": c, "label": True}, SAID, SAID),
    st.builds(
        lambda p, c: {"prompt": p, "completion": c, "label": True, "steps": [{"completion": c, "label": False}]},
        TEXT,
        TEXT,
    ),
    st.builds(lambda text: {"text": text}, TEXT),
)


@settings(max_examples=200, deadline=None)
@given(RECORD)
def test_a_reading_is_what_the_contract_says(raw: dict[str, Any]) -> None:
    name, record = parse_record(raw)
    found = read(name, canonical_record(record))
    before = prompt_turns(record)
    asked = [said(turn) for turn in before if turn.role != "system"]
    assert found.prompt == "\n".join(asked or [turn.content for turn in before])
    assert found.completion == completion_text(record)
    assert found.kind == kind(record)
    assert json.loads(found.record) == json.loads(canonical_record(record))
