"""Each step of a project file leaves out what it says, with its reason, in any order."""

import json
import random
import time
from typing import Any, get_args

import pyarrow as pa
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st
from pydantic import ValidationError

from contracts.preparation import Prep
from contracts.steps import Rule
from services.prep.domain.quality import RULES
from services.prep.domain.rows import Accepted
from tests.unit.prep.frames import Frozen, freeze

WORDS = [f"word{i}" for i in range(400)]


def accepted(record_id: str, prompt: str, completion: str = "ls", subject: str | None = None, **tags: str) -> Accepted:
    record = json.dumps({"prompt": prompt, "completion": completion})
    return Accepted(record_id, 1, "prompt_completion", record, json.dumps(tags), subject)


def frozen(records: list[Accepted], *steps: dict[str, Any], held_out: float = 0) -> Frozen:
    return freeze(records, Prep.model_validate({"held_out": held_out, "validation": 0, "steps": steps}))


def test_the_former_keys_are_steps() -> None:
    records = [accepted("a", "q", "x"), accepted("b", "q", "x"), accepted("c", "r", "y" * 40), accepted("d", "s", "")]
    keys = freeze(records, Prep(held_out=0, validation=0, max_chars=30))
    listed = frozen(records, {"step": "length", "max_chars": 30}, {"step": "duplicates"}, {"step": "near_duplicates"})
    assert (keys.rows, keys.drops) == (listed.rows, listed.drops)
    with pytest.raises(ValidationError, match="say those as steps too"):
        Prep.model_validate({"max_chars": 30, "steps": []})
    stored = Prep.model_validate({"steps": [{"step": "length"}]})
    assert Prep.model_validate(stored.model_dump(mode="json")) == stored


def test_the_order_of_steps_is_the_project_s() -> None:
    records = [accepted("a", "x", "lorem ipsum"), accepted("b", "x", "lorem ipsum")]
    quality, duplicates = {"step": "quality", "rules": ["c4_lorem_ipsum"]}, {"step": "duplicates"}
    assert frozen(records, quality, duplicates).drops_by_reason() == {"quality_c4_lorem_ipsum": 2}
    assert frozen(records, duplicates, quality).drops_by_reason() == {"duplicate": 1, "quality_c4_lorem_ipsum": 1}


def test_near_ones_within_train_go_where_the_project_says_so() -> None:
    text = " ".join(WORDS[:30])
    records = [accepted("a", text), accepted("b", f"{text} please"), accepted("c", " ".join(WORDS[50:80]))]
    assert not frozen(records, {"step": "near_duplicates"}).drops
    [drop] = frozen(records, {"step": "near_duplicates", "within_train": True}).drops
    assert (drop.record_id, drop.reason, drop.because_of) == ("b", "near_train", "a")


GOOD = "The list of the files is shown with their names and sizes, so that you have what you want to see. " * 4
BAD = {
    "gopher_words": "too few words",
    "gopher_word_length": "a b c d e f " * 10,
    "gopher_symbols": "# one # two # three " * 6,
    "gopher_letters": "12 34 56 word " * 20,
    "gopher_stop_words": "list files names sizes " * 20,
    "gopher_bullets": "- a thing of the list\n" * 20,
    "gopher_ellipses": "a thing of the list...\n" * 20,
    "c4_lorem_ipsum": f"{GOOD} Lorem Ipsum",
    "c4_braces": f"{GOOD} {{",
    "c4_javascript": f"{GOOD} Please enable JavaScript.",
    "fineweb_punctuation": "a line that ends with no mark of any kind\n" * 9,
    "fineweb_short_lines": "Short.\n" * 9,
    "fineweb_repeated_lines": f"{GOOD}\n{GOOD}",
}


@pytest.mark.parametrize("rule", get_args(Rule))
def test_a_rule_of_quality_drops_what_it_says_and_keeps_prose(rule: str) -> None:
    found = frozen([accepted("bad", "q", BAD[rule]), accepted("good", "q", GOOD)], {"step": "quality", "rules": [rule]})
    assert [(drop.record_id, drop.reason) for drop in found.drops] == [("bad", f"quality_{rule}")]
    assert set(RULES) == set(get_args(Rule))


def test_a_pattern_runs_in_linear_time_and_none_that_cannot_is_taken() -> None:
    records = [accepted("a", "a" * 50_000 + "b"), accepted("b", "call 0123-456", "x")]
    steps = [{"step": "pattern", "name": n, "drop": p} for n, p in {"slow": "^(a+)+$", "phone": r"\d{4}-\d{3}"}.items()]
    assert frozen(records, *steps).drops_by_reason() == {"pattern_phone": 1}
    for pattern in ("(?=a)", r"(a)\1", "("):
        with pytest.raises(ValidationError):
            Prep.model_validate({"steps": [{"step": "pattern", "name": "x", "drop": pattern}]})


HOSTILE = {
    "tags": "<div class='a'>" * 6_000,
    "one word": "a" * 90_000,
    "one line": "the list of files " * 5_000,
    "braces": "{[(" * 30_000,
    "blanks": " \n" * 45_000,
    "marks": "." * 90_000,
    "no spaces": "漢" * 90_000,
}
"""Each nearly of the longest content that is taken."""


@pytest.mark.parametrize("name", HOSTILE)
def test_a_long_text_of_any_kind_gets_through_every_step_in_seconds(name: str) -> None:
    """In processor time: as a prompt and as a completion, beside one that the same text repeats."""
    text = HOSTILE[name]
    records = [accepted("p", f"{text} p"), accepted("c", "q", f"{text} c"), accepted("again", f"{text} p again", text)]
    steps = [
        {"step": "length", "max_chars": 1_000_000},
        {"step": "quality", "rules": list(get_args(Rule))},
        {"step": "pattern", "name": "tag", "drop": r"(<[a-z]+(\s[^>]*)?>)+"},
        {"step": "duplicates"},
        {"step": "near_duplicates", "within_train": True},
        {"step": "decontaminate"},
    ]
    began = time.process_time()
    for step in steps:
        frozen(records, step, held_out=0.3)
    assert time.process_time() - began < 10
    assert {drop.reason for drop in frozen(records, {"step": "length"}).drops} <= {"too_long", "empty"}
    assert len(frozen(records, {"step": "length"}).drops) == 3


def test_training_rows_that_hold_a_held_out_text_are_contaminated() -> None:
    dice = random.Random(1)
    records = [
        accepted(f"r{i:02}", " ".join(dice.choices(WORDS, k=30)), " ".join(dice.choices(WORDS, k=30)))
        for i in range(60)
    ]
    sides = {row.record_id: row.split for row in frozen(records, held_out=0.3).rows}
    held, train = (next(r for r in records if sides[r.record_id] == side) for side in ("held_out", "train"))
    leaked = json.loads(held.record)["completion"]
    bad = accepted(train.record_id, json.loads(train.record)["prompt"], f"as we know: {leaked}")
    found = frozen([bad if r is train else r for r in records], {"step": "decontaminate"}, held_out=0.3)
    assert [(d.record_id, d.reason, d.because_of) for d in found.drops] == [
        (bad.record_id, "contaminated", held.record_id)
    ]


def test_training_rows_that_hold_a_text_of_another_dataset_are_contaminated_by_it() -> None:
    dice = random.Random(2)
    exam, template = (" ".join(dice.choices(WORDS, k=20)) for _ in range(2))
    records = [
        accepted(name, "q", text) for name, text in {"a": f"so {exam}", "b": "other words", "c": template}.items()
    ]
    shared = [f"{template} {i}" for i in range(6)]  # stands in many of the exam's records: an instruction
    sets = {
        "exam@1": lambda: iter([pa.array([exam, "x"]), pa.array(shared)]),
        "other@2": lambda: iter([pa.array([exam])]),
    }
    rules = {"held_out": 0, "validation": 0, "steps": [{"step": "decontaminate", "against": ["exam@1", "other@2"]}]}
    found = freeze(records, Prep.model_validate(rules), sets=sets)
    assert [(d.record_id, d.reason, d.because_of) for d in found.drops] == [("a", "contaminated_exam@1", None)]
    with pytest.raises(ValidationError, match="against"):
        Prep.model_validate({"steps": [{"step": "decontaminate", "against": ["exam"]}]})
    assert (
        "against" not in Prep.model_validate({"steps": [{"step": "decontaminate"}]}).model_dump(mode="json")["steps"][0]
    )


def test_caps_and_proportions_hold_and_the_same_ones_stay() -> None:
    records = [accepted(f"r{i:02}", f"p{i}", f"c{i}", subject=f"s{i % 2}", tool="abb"[i % 3]) for i in range(30)]
    capped = frozen(records, {"step": "cap", "by": "subject", "most": 4})
    kept = {row.record_id for row in capped.rows}
    assert sorted(record.subject or "" for record in records if record.record_id in kept) == ["s0"] * 4 + ["s1"] * 4
    fewer = frozen([r for r in records if r.record_id in kept], {"step": "cap", "by": "subject", "most": 4})
    assert {row.record_id for row in fewer.rows} == kept
    mixed = frozen(records, {"step": "mix", "by": "tag:tool", "weights": {"a": 2, "b": 1}})
    tools = [json.loads(r.tags)["tool"] for r in records if r.record_id in {row.record_id for row in mixed.rows}]
    assert (tools.count("a"), tools.count("b")) == (10, 5)
    assert mixed.drops_by_reason() == {"mixed_out": 15}


STEPS = st.permutations(
    [
        {"step": "length"},
        {"step": "duplicates"},
        {"step": "near_duplicates", "within_train": True},
        {"step": "decontaminate"},
    ]
)


@settings(max_examples=30, deadline=None)
@given(STEPS, st.lists(st.sampled_from(["a b c", "a b c d", "", "x y", "x"]), max_size=12))
def test_in_any_order_nothing_is_lost_and_nothing_counted_twice(steps: list[dict[str, Any]], texts: list[str]) -> None:
    records = [accepted(f"r{i:02}", text, text) for i, text in enumerate(texts)]
    found = frozen(records, *steps, held_out=0.3)
    names = [row.record_id for row in found.rows] + [drop.record_id for drop in found.drops]
    assert sorted(names) == [record.record_id for record in records]


def test_lengths_count_the_base_s_tokens() -> None:
    completions = {"none": " ", "few": "one two", "fits": "one two three", "many": "one two three four five six seven"}
    records = [accepted(name, "a question", text) for name, text in completions.items()]
    rule = {"step": "length", "min_tokens": 3, "max_tokens": 8}
    found = frozen(records, rule)  # the tests' tokens are words
    assert {row.record_id for row in found.rows} == {"fits"}
    assert found.drops_by_reason() == {"empty": 1, "too_few_tokens": 1, "too_many_tokens": 1}
    stored = Prep.model_validate({"steps": [{"step": "length"}]}).model_dump(mode="json")
    assert set(stored["steps"][0]) == {"step", "min_chars", "max_chars"}


@pytest.mark.parametrize(("at_most", "kept"), [(0, 0), (0.2, 2), (0.5, 8), (0.9, 12)])
def test_synthetic_records_are_at_most_a_share_of_train(at_most: float, kept: int) -> None:
    told = ["yes", "no", "", "true", "1"]
    records = [accepted(f"r{i:02}", f"p{i}", f"c{i}", synthetic=told[i % 5]) for i in range(20)]
    rules = {"held_out": 0, "validation": 0, "steps": [], "synthetic": {"tag": "synthetic", "at_most": at_most}}
    found = freeze(records, Prep.model_validate(rules))
    names = {row.record_id for row in found.rows}
    assert sum(json.loads(r.tags)["synthetic"] in ("yes", "true", "1") for r in records if r.record_id in names) == kept
    assert len(names) == 8 + kept
    assert found.drops_by_reason() == ({"synthetic": 12 - kept} if kept < 12 else {})


HOLDS = {
    "EMAIL_ADDRESS": "write to ann.smith@example.com",
    "CREDIT_CARD": "charge 4111 1111 1111 1111 please",
    "API_KEY": "use sk-proj-abcdEFGH1234567890abcd",
}


def test_records_with_secrets_and_personal_data_go_by_kind_as_the_door_finds_them() -> None:
    records = [accepted(kind, "q", text) for kind, text in HOLDS.items()]
    records += [
        accepted("both", f"{HOLDS['API_KEY']} or {HOLDS['EMAIL_ADDRESS']}"),
        accepted("none", "order 20260131-7"),
    ]
    tool = {
        "tool_calls": [{"id": "c", "type": "function", "function": {"name": "mail", "arguments": json.dumps(HOLDS)}}]
    }
    turns = [{"role": "user", "content": "q"}, {"role": "assistant", "content": "", **tool}]
    records.append(Accepted("tool", 1, "messages", json.dumps({"messages": turns}), "{}", None))
    found = {drop.record_id: drop.reason for drop in frozen(records, {"step": "pii"}).drops}
    assert found == {kind: f"pii_{kind}" for kind in HOLDS} | {"both": "pii_API_KEY", "tool": "pii_API_KEY"}
    some = frozen(records, {"step": "pii", "kinds": ["EMAIL_ADDRESS", "JWT"]})
    assert {(drop.record_id, drop.reason) for drop in some.drops} == {
        (name, "pii_EMAIL_ADDRESS") for name in ("EMAIL_ADDRESS", "both", "tool")
    }
    with pytest.raises(ValidationError, match="kinds"):
        Prep.model_validate({"steps": [{"step": "pii", "kinds": ["NAME"]}]})


def test_the_keys_of_before_are_steps_at_their_places_and_keep_their_digests() -> None:
    language, share = {"keep": ["en"]}, {"tag": "made", "at_most": 0.5}
    before = Prep.model_validate({"steps": [{"step": "duplicates"}], "language": language, "synthetic": share})
    text = "This is a sentence that anybody reads as English"
    records = [accepted(f"r{i}", f"{text} {i}", made="yes" if i % 3 else "no") for i in range(9)]
    records += [accepted("de", "Das ist ein Satz, den jeder auf Deutsch liest", "und noch einer dazu", made="no")]
    plain = before.model_copy(update={"held_out": 0.0, "validation": 0.0})
    steps = ({"step": "language", **language}, {"step": "duplicates"}, {"step": "synthetic", **share})
    listed = frozen(records, *steps)
    keys = freeze(records, plain)
    assert (keys.rows, keys.drops) == (listed.rows, listed.drops)
    assert listed.drops_by_reason() == {"language_de": 1, "synthetic": 3}
    assert set(before.model_dump(mode="json")["language"]) == {"keep", "min_confidence"}, "as it was written"
    with pytest.raises(ValidationError, match="language stands beside steps and among them; keep the step"):
        Prep.model_validate({"language": language, "steps": steps})
