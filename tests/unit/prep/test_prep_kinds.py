"""Tool conversations, prompts alone and stepwise verdicts are rows of their own kinds; what was sent is kept beside a record."""

import json
from collections.abc import Callable
from typing import Any

from sqlmodel import select

from contracts.canonical import canonical
from contracts.events.ingestion import RecordAcceptedV1
from contracts.kinds import KINDS, LEARNT, NEEDED, lacking, unusable
from contracts.preparation import Prep
from contracts.records import canonical_record, parse_record
from contracts.training import METHODS
from services.prep.domain import pipeline
from services.prep.domain.reading import read
from services.prep.domain.rows import Accepted
from services.prep.profiling.figures import words
from services.prep.tables import RecordRow
from tests.unit.prep.builders import Events, Opened
from tests.unit.prep.frames import frame_of, freeze, measured, never

USER = {"role": "user", "content": "What color?"}


def call(arguments: str) -> dict[str, Any]:
    function = {"name": "sky", "arguments": arguments}
    return {"role": "assistant", "content": "", "tool_calls": [{"id": "c", "type": "function", "function": function}]}


def accepted(record_id: str, **record: Any) -> Accepted:
    name, typed = parse_record(record)
    return Accepted(record_id, 1, name, canonical_record(typed), "{}", None)


def test_each_kind_is_counted_and_none_is_dropped_for_what_it_has_not() -> None:
    steps = [{"completion": "a", "label": True}]
    records = [
        accepted("call", messages=[USER, call('{"at": 1}')]),
        accepted("other call", messages=[USER, call('{"at": 2}')]),
        accepted("same call", messages=[USER, call('{"at": 2}')]),
        accepted("prompt", prompt="q", completion=""),
        accepted("steps", prompt="r", completion="a", label=True, steps=steps),
        accepted("plain", prompt="s", completion="b"),
        accepted("blank", prompt=" ", completion=""),
    ]
    by_id = {record.record_id: record for record in records}
    dataset = freeze(records, Prep(held_out=0, validation=0))
    rows = {row.record_id: read(by_id[row.record_id].format, row.record) for row in dataset.rows}
    kinds = sorted(reading.kind for reading in rows.values())
    assert kinds == ["prompt_completion", "prompt_only", "stepwise", "tools", "tools"]
    assert dataset.drops_by_reason() == {"duplicate": 1, "empty": 1}
    assert rows["call"].completion == '{"name": "sky", "arguments": {"at": 1}}'
    assert json.loads(rows["steps"].record)["steps"] == steps


def test_rows_are_counted_by_split_and_kind() -> None:
    records = [
        accepted("plain", prompt="a", completion="b"),
        accepted("good", prompt="c", completion="d", label=True),
        accepted("bad", prompt="e", completion="f", label=False),
        accepted("pair", prompt="g", chosen="h", rejected="i"),
        accepted("prompt", prompt="j", completion=""),
        accepted("again", prompt="a", completion="b"),
    ]
    prep = Prep(held_out=0, validation=0)
    frame = frame_of(measured(records), prep)
    outcome = pipeline.freeze(frame, prep, pipeline.Means(never, words, {}))
    kinds = outcome.kinds(frame)
    one_each = ("preference", "prompt_completion", "prompt_only", "undesirable", "unpaired_preference")
    assert kinds == {"train": dict.fromkeys(one_each, 1), "validation": {}, "held_out": {}}
    assert unusable(["sft"], kinds["train"]) == {"preference": 1, "prompt_only": 1, "undesirable": 1}
    assert unusable(["sft", "kto"], kinds["train"]) == {"prompt_only": 1}


def test_every_way_of_training_says_what_it_learns_from() -> None:
    assert set(METHODS) == set(LEARNT)
    assert {kind for learnt in LEARNT.values() for kind in learnt} <= set(KINDS)


def test_tools_and_verdicts_of_steps_are_content() -> None:
    turns = [USER, {"role": "assistant", "content": "blue"}]
    records = [
        accepted("bare", messages=turns),
        accepted("tools", messages=turns, tools='[{"type":"function","function":{"name":"f"}}]'),
        *(
            accepted(f"{label}", prompt="r", completion="a", label=False, steps=[{"completion": "a", "label": label}])
            for label in (True, False)
        ),
    ]
    dataset = freeze(records, Prep(held_out=0, validation=0))
    assert sum(dataset.drops_by_reason().values()) == 0


def test_what_was_sent_is_kept_beside_the_record(handle: Callable[[Any], None], opened: Opened, events: Events) -> None:
    sent: dict[str, Any] = {"instruction": "q", "output": "a", "input": None}
    converted = events.accepted("r", "x").model_copy(update={"shape": "alpaca", "sent": sent})
    again = RecordAcceptedV1.model_validate_json(converted.to_bytes())
    assert again == converted
    handle([events.defined(), again, events.accepted("plain", "y")])
    with opened() as store:
        rows = {row.record_id: row for row in store.session.exec(select(RecordRow)).all()}
    assert (rows["r"].shape, rows["r"].sent) == ("alpaca", canonical(sent))
    assert (rows["plain"].shape, rows["plain"].sent) == (None, None)


def test_accepted_records_are_counted_by_kind_before_any_dataset(
    handle: Callable[..., None], events: Events, opened: Opened, client: Any, monkeypatch: Any
) -> None:
    def of(record_id: str, revision: int = 1, **record: Any) -> RecordAcceptedV1:
        name, typed = parse_record(record)
        return events.accepted(record_id, "").model_copy(update={"format": name, "record": typed, "revision": revision})

    plain = [USER, {"role": "assistant", "content": "Blue."}]
    handle(
        [events.defined(), *(of(f"r{n}", messages=plain) for n in range(5)), of("call", messages=[USER, call("{}")])]
    )
    handle([of("prompt", prompt="q", completion=""), of("bad", prompt="q", completion="a", label=False)])
    handle([of("r0", 2, prompt="q", chosen="a", rejected="b"), of("r1", 0, prompt="late", completion="")])
    counts = {"messages": 4, "tools": 1, "prompt_only": 1, "undesirable": 1, "preference": 1}
    with opened() as store:
        assert store.kinds("p") == counts
        assert store.kinds("other") == {}
    pending = client.get("/v1/projects/p/pending").json()
    assert (pending["kinds"], pending["lacking"]) == (counts, {})
    assert pending["unusable"] == {"preference": 1, "prompt_only": 1, "undesirable": 1}
    monkeypatch.setattr("services.prep.store.COUNTED", 2)
    with opened() as store:
        assert store.kinds("p")["messages"] == 2


def test_a_method_lacks_what_it_cannot_do_without() -> None:
    assert set(NEEDED) == set(METHODS)
    assert lacking(["sft", "dpo"], {"messages": 3}) == {"dpo": ["preference"]}
    assert lacking(["kto"], {"undesirable": 1}) == {"kto": ["preference", "unpaired_preference"]}
    assert lacking(["kto"], {"undesirable": 1, "unpaired_preference": 1}) == {}
    assert lacking(["kto", "dpo", "orpo"], {"preference": 1}) == {}
