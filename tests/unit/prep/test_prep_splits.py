"""Records are divided by prompt, conversation, subject, tag or time, and what was trained on stays in train."""

import json
from collections import Counter
from datetime import UTC, datetime, timedelta
from itertools import pairwise
from typing import Any

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from contracts.canonical import canonical
from contracts.preparation import Prep
from contracts.project import ProjectSpec
from services.prep.domain import reading
from services.prep.domain.rows import Accepted
from services.prep.domain.splits import grew, group_key
from tests.unit.prep.frames import freeze

NOW = datetime(2026, 1, 31, tzinfo=UTC)
GROUPS = ("subject", "tag:customer", "conversation")
RECORDS = st.lists(
    st.tuples(st.integers(0, 9), st.none() | st.integers(0, 6), st.integers(0, 3), st.integers(0, 50)), max_size=60
)
Sides = dict[str, str]


def record(i: int, prompt: int, owner: int | None, stratum: int, minutes: int) -> Accepted:
    text = json.dumps({"prompt": f"p{prompt}", "completion": f"c{i}"})
    tags = {} if owner is None else {"customer": f"k{owner}", "conversation": f"t{owner}"}
    subject = None if owner is None else f"s{owner}"
    at = NOW + timedelta(minutes=minutes)
    return Accepted(f"r{i:03}", 1, "prompt_completion", text, json.dumps({**tags, "kind": f"x{stratum}"}), subject, at)


def prep(by: str = "prompt", stratify: str | None = None, held_out: float = 0.3, validation: float = 0.1) -> Prep:
    split = {"by": by} | ({"stratify": stratify} if stratify else {})
    return Prep.model_validate({"held_out": held_out, "validation": validation, "steps": [], "split": split})


def sides(records: list[Accepted], rules: Prep, trained: list[str] | None = None) -> Sides:
    return {row.record_id: row.split for row in freeze(records, rules, trained or []).rows}


def key(one: Accepted, by: str) -> str:
    prompt = reading.read(one.format, one.record).prompt_key
    return group_key(by, prompt, one.subject, json.loads(one.tags))


def test_a_project_that_says_nothing_is_what_it_was() -> None:
    spec = ProjectSpec(project="p", base="b")
    assert "split" not in canonical(spec.model_dump(mode="json"))
    assert spec.prep == Prep.model_validate({"split": {"by": "prompt"}})


@settings(max_examples=150, deadline=None)
@given(RECORDS, st.sampled_from(["prompt", *GROUPS]), st.none() | st.just("tag:kind"))
def test_a_group_is_on_one_side(rows: list[Any], by: str, stratify: str | None) -> None:
    records = [record(i, *row) for i, row in enumerate(rows)]
    found = sides(records, prep(by, stratify))
    assert set(found) == {one.record_id for one in records}
    of_group: dict[str, set[str]] = {}
    for one in records:
        of_group.setdefault(key(one, by), set()).add(found[one.record_id])
    assert all(len(each) == 1 for each in of_group.values())


@settings(max_examples=100, deadline=None)
@given(RECORDS, st.sampled_from(["prompt", *GROUPS]))
def test_a_side_hangs_on_nothing_but_the_record_and_is_told_before_a_freeze(rows: list[Any], by: str) -> None:
    records = [record(i, *row) for i, row in enumerate(rows)]
    found = sides(records, prep(by))
    assert sides(records[: len(records) // 2], prep(by)).items() <= found.items()
    for one in records:
        told = reading.split(one.format, one.record, one.subject, json.loads(one.tags), prep(by))
        assert told == found[one.record_id]


@settings(max_examples=100, deadline=None)
@given(RECORDS, st.sampled_from(["prompt", *GROUPS, "time"]), st.none() | st.just("tag:kind"), st.data())
def test_what_was_trained_on_stays_in_train(
    rows: list[Any], by: str, stratify: str | None, data: st.DataObject
) -> None:
    records = [record(i, *row) for i, row in enumerate(rows)]
    before = sides(records[: data.draw(st.integers(0, len(records)))], prep(by, stratify, 0.1, 0.1))
    learnt = {one.record_id for one in records if before.get(one.record_id) == "train"}
    trained = [key(one, by) for one in records if one.record_id in learnt]
    now = prep(by, stratify, 0.45, 0.2)
    assert grew(now, prep(by, stratify, 0.1, 0.1))
    found = sides(records, now, trained)
    assert {found[name] for name in learnt} <= {"train"}
    assert all(found[one.record_id] == "train" for one in records if key(one, by) in trained)


@settings(max_examples=100, deadline=None)
@given(RECORDS)
def test_by_time_the_newest_are_held_out(rows: list[Any]) -> None:
    records = [record(i, *row) for i, row in enumerate(rows)]
    found = sides(records, prep("time"))
    times = {side: [r.accepted_at for r in records if found[r.record_id] == side and r.accepted_at] for side in SPLIT}
    for earlier, later in pairwise(SPLIT):
        assert not times[earlier] or not times[later] or max(times[earlier]) <= min(times[later])
    assert abs(len(times["held_out"]) - 0.3 * len(records)) <= 0.5


SPLIT = ("train", "validation", "held_out")


def test_each_stratum_has_the_shares_for_itself() -> None:
    records = [record(i, i, None, 0 if i < 180 else 1, 0) for i in range(200)]
    found = sides(records, prep(stratify="tag:kind", held_out=0.1, validation=0.05))
    for kind, size in {"x0": 180, "x1": 20}.items():
        own = Counter(found[r.record_id] for r in records if json.loads(r.tags)["kind"] == kind)
        assert own == {"train": size * 0.85, "validation": size * 0.05, "held_out": size * 0.1}


def test_other_rules_look_at_all_that_was_trained_on() -> None:
    assert not grew(prep("subject"), prep("subject"))
    assert grew(prep("subject"), prep())
    assert grew(prep("time"), prep("time"))
    assert grew(prep(stratify="tag:kind"), prep(stratify="tag:kind"))
    assert reading.split("text", '{"text": "x"}', None, {}, prep("time")) is None


@pytest.mark.parametrize("split", [{"by": "day"}, {"by": "tag:"}, {"stratify": "subject"}, {"on": "time"}])
def test_what_nothing_is_divided_by_is_refused(split: dict[str, str]) -> None:
    with pytest.raises(ValueError, match="split"):
        Prep.model_validate({"split": split})
