import json
import random
from typing import Any

from hypothesis import given, settings
from hypothesis import strategies as st

from contracts.preparation import Prep
from services.prep.domain import normalise, splits
from services.prep.domain.reading import read
from services.prep.domain.rows import Accepted
from tests.unit.prep.frames import freeze
from tests.unit.prep.near import are_near, pairs

PREP = Prep(held_out=0.3, validation=0.2)


def accepted(record_id: str, prompt: str, completion: str = "ls", **more: Any) -> Accepted:
    record = {"prompt": prompt, "completion": completion}
    return Accepted(record_id, 1, "prompt_completion", json.dumps(record), json.dumps(more), None)


words = st.sampled_from([f"w{i}" for i in range(12)])
prompts = st.lists(words, min_size=1, max_size=8).map(" ".join)
records = st.lists(
    st.builds(lambda i, prompt, completion: (i, prompt, completion), st.integers(0, 999), prompts, words),
    max_size=40,
    unique_by=lambda record: record[0],
).map(lambda found: [accepted(f"r{i:03}", prompt, completion) for i, prompt, completion in found])


@settings(max_examples=60, deadline=None)
@given(records, st.randoms(use_true_random=False))
def test_a_dataset_is_the_same_whatever_the_order_of_arrival(found: list[Accepted], order: random.Random) -> None:
    shuffled = list(found)
    order.shuffle(shuffled)
    assert freeze(shuffled, PREP) == freeze(found, PREP)


@settings(max_examples=60, deadline=None)
@given(records, records)
def test_no_record_changes_its_split_when_others_come(found: list[Accepted], more: list[Accepted]) -> None:
    known = {record.record_id for record in found}
    grown = [*found, *(record for record in more if record.record_id not in known)]
    before = {row.record_id: row.split for row in freeze(found, PREP).rows}
    after = {row.record_id: row.split for row in freeze(grown, PREP).rows}
    assert all(before[record_id] == split for record_id, split in after.items() if record_id in before)


@settings(max_examples=60, deadline=None)
@given(records)
def test_no_near_pair_stands_in_two_splits_and_every_drop_is_needed(found: list[Accepted]) -> None:
    dataset = freeze(found, PREP)
    readings = {record.record_id: read(record.format, record.record) for record in found}
    near = pairs({record_id: reading.words for record_id, reading in readings.items() if reading.completion.strip()})
    split = {row.record_id: row.split for row in dataset.rows}
    assert not [pair for pair in near if {*pair} <= split.keys() and len({split[record_id] for record_id in pair}) > 1]
    assert len(dataset.rows) + len(dataset.drops) == len(found)
    for drop in dataset.drops:
        assert drop.because_of in split
        if drop.reason == "duplicate":
            assert readings[drop.because_of].content == readings[drop.record_id].content
        else:
            assert drop.reason == f"near_{split[drop.because_of]}"
            assert frozenset((drop.because_of, drop.record_id)) in near


def test_near_means_four_fifths_of_the_words() -> None:
    assert are_near(frozenset("abcd"), frozenset("abcde"))
    assert not are_near(frozenset("abcd"), frozenset("abce"))


def test_every_drop_has_its_reason() -> None:
    prep = Prep(min_chars=2, max_chars=30, held_out=0, validation=0)
    found = [
        accepted("a", "one thing", "  ls -l\r\n"),
        accepted("b", "one thing", "ls -l"),
        accepted("c", "another", " \n"),
        accepted("d", "third", "x"),
        accepted("e", "fourth", "y" * 30),
    ]
    dataset = freeze(found, prep)
    assert [kept.record_id for kept in dataset.rows] == ["a"]
    assert {drop.record_id: drop.reason for drop in dataset.drops} == {
        "b": "duplicate",
        "c": "empty",
        "d": "too_short",
        "e": "too_long",
    }
    assert dataset.drops_by_reason() == {"duplicate": 1, "empty": 1, "too_long": 1, "too_short": 1}


def test_duplicates_stay_where_the_project_wants_them() -> None:
    found = [accepted("a", "q", "ls"), accepted("b", "q", "ls")]
    assert len(freeze(found, Prep(deduplicate="none")).rows) == 2


def test_one_content_in_two_formats_is_a_duplicate() -> None:
    chat = {"messages": [{"role": "user", "content": "q"}, {"role": "assistant", "content": "ls"}]}
    found = [accepted("a", "q"), Accepted("b", 1, "messages", json.dumps(chat), "{}", None)]
    assert [drop.reason for drop in freeze(found, PREP).drops] == ["duplicate"]


def test_a_preference_is_no_duplicate_of_its_chosen_answer() -> None:
    pair = {"prompt": "q", "chosen": "ls", "rejected": "rm"}
    found = [accepted("a", "q"), Accepted("b", 1, "preference", json.dumps(pair), "{}", None)]
    assert len(freeze(found, PREP).rows) == 2


def test_answers_to_one_prompt_stand_together() -> None:
    found = [
        accepted(str(i), prompt, f"ls {i}")
        for i, prompt in enumerate(("Tar: LIST files!", "tar list  files", "tar: list files"))
    ]
    dataset = freeze(found, PREP)
    assert len(dataset.rows) == 3
    assert len({(row.split, row.prompt_key) for row in dataset.rows}) == 1


def test_splits_have_the_wanted_sizes() -> None:
    found = [splits.split_of(splits.prompt_key(str(i)), Prep(held_out=0.15, validation=0.05)) for i in range(4000)]
    assert 0.13 < found.count("held_out") / 4000 < 0.17
    assert 0.04 < found.count("validation") / 4000 < 0.06


def test_a_larger_held_out_part_takes_from_train_alone() -> None:
    keys = [splits.prompt_key(str(i)) for i in range(1000)]
    small, large = Prep(held_out=0.1, validation=0.1), Prep(held_out=0.3, validation=0.1)
    moved = {(splits.split_of(key, small), splits.split_of(key, large)) for key in keys}
    assert moved == {("train", "train"), ("train", "held_out"), ("held_out", "held_out"), ("validation", "validation")}


def test_the_version_follows_content_tags_and_rules() -> None:
    versions = {
        freeze([accepted("a", "q")], PREP).version,
        freeze([accepted("a", "q", "ls -l")], PREP).version,
        freeze([accepted("a", "q", tool="ls")], PREP).version,
        freeze([accepted("a", "q")], Prep(held_out=0.31, validation=0.2)).version,
    }
    assert len(versions) == 4
    later = Accepted("a", 7, *[getattr(accepted("a", "q"), name) for name in ("format", "record", "tags", "subject")])
    assert freeze([later], PREP).version in versions


def test_a_shared_system_turn_makes_no_prompts_near() -> None:
    system = {"role": "system", "content": " ".join(f"rule{i}" for i in range(50))}
    found = [
        Accepted(
            str(i),
            1,
            "messages",
            json.dumps(
                {"messages": [system, {"role": "user", "content": f"q{i}"}, {"role": "assistant", "content": "a"}]}
            ),
            "{}",
            None,
        )
        for i in range(50)
    ]
    assert len(freeze(found, PREP).rows) == 50


def test_words_have_no_case_punctuation_or_spacing() -> None:
    assert normalise.words("\uff34ar:  List_the\tfiles?") == ("tar", "list", "the", "files")
    assert normalise.words("列出文件") == ("列", "出", "文", "件")
    assert normalise.words("++ --") == ("+", "+", "-", "-")


def test_texts_have_one_form() -> None:
    raw = {"messages": [{"role": "user", "content": " e\u0301\r\nx\r "}], "label": True}
    assert normalise.texts(raw) == {"messages": [{"role": "user", "content": "é\nx"}], "label": True}
