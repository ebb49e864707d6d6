"""The search for near prompts finds what brute force finds, in any vocabulary, and no template makes prompts near."""

import json
import random
from collections.abc import Callable

import pyarrow as pa
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from contracts.preparation import Prep
from services.prep import engine
from services.prep.domain import near_duplicates
from services.prep.domain.near.hashing import runs, tokens
from services.prep.domain.rows import Accepted
from tests.unit.prep.frames import Frozen, freeze
from tests.unit.prep.near import pairs

PREP = Prep(held_out=0.3, validation=0.1)
VOCABULARY = [f"word{i}" for i in range(5000)]


def schema(number: int) -> str:
    """300 words."""
    return " ".join(f"create table t{number}x{i} ( id{number}x{i} integer, name{i} text )" for i in range(30))


@settings(max_examples=50, deadline=None)
@given(st.lists(st.lists(st.text("ab\u00e9\u4e2d", min_size=1, max_size=9), max_size=12), max_size=12))
def test_equal_words_have_equal_numbers_and_no_others(documents: list[list[str]]) -> None:
    found = tokens(pa.array([" ".join(words) for words in documents], pa.string()))
    flat = [word for words in documents for word in words]
    numbers = found.hashes.tolist()
    assert found.offsets.tolist() == [0, *(sum(map(len, documents[: i + 1])) for i in range(len(documents)))]
    assert len(set(zip(flat, numbers, strict=True))) == len(set(flat)) == len(set(numbers))
    values, starts = runs(found, 3)
    triples = [tuple(words[i : i + 3]) for words in documents for i in range(len(words) - 2)]
    assert [tuple(flat[i : i + 3]) for i in starts.tolist()] == triples
    assert len(set(zip(triples, values.tolist(), strict=True))) == len(set(triples)) == len(set(values.tolist()))


def frozen(prompts: list[str]) -> Frozen:
    records = [
        Accepted(f"r{i:05}", 1, "prompt_completion", json.dumps({"prompt": p, "completion": "x"}), "{}", None)
        for i, p in enumerate(prompts)
    ]
    engine.start(None)
    return freeze(records, PREP, sign=engine.minhash)


@pytest.mark.parametrize("most", [0, 300])
def test_words_that_are_not_kept_are_hashed_anew(most: int, monkeypatch: pytest.MonkeyPatch) -> None:
    dice = random.Random(5)
    prompts = [f"{schema(i % 2)} {' '.join(zipf(dice))}" for i in range(30)]
    prompts += [f"{prompt} please" for prompt in prompts[:15]]
    kept = frozen(prompts)
    monkeypatch.setattr(near_duplicates, "MOST_KEPT", most)
    again = frozen(prompts)
    assert (again.rows, again.drops) == (kept.rows, kept.drops)
    assert kept.drops


def zipf(dice: random.Random) -> list[str]:
    return [VOCABULARY[min(4999, int(dice.paretovariate(0.9)) - 1)] for _ in range(dice.randint(8, 40))]


def uniform(dice: random.Random) -> list[str]:
    return dice.choices(VOCABULARY, k=dice.randint(8, 40))


def common(dice: random.Random) -> list[str]:
    return dice.choices(VOCABULARY[:30], k=dice.randint(8, 40))


def one_word(dice: random.Random) -> list[str]:
    return ["a"] * dice.randint(1, 200)


def with_near_ones(make: Callable[[random.Random], list[str]], count: int) -> list[str]:
    """Every third one is another one with some words replaced."""
    dice, made = random.Random(3), list[list[str]]()
    for _ in range(count):
        if made and dice.random() < 0.33:
            words = list(dice.choice(made))
            for _ in range(dice.choice((1, 1, 2, 3))):
                words[dice.randrange(len(words))] = dice.choice(VOCABULARY)
        else:
            words = make(dice)
        made.append(words)
    return [" ".join(words) for words in made]


@pytest.mark.parametrize("make", [common, one_word])
def test_what_brute_force_finds_is_found(make: Callable[[random.Random], list[str]]) -> None:
    prompts = with_near_ones(make, 900)
    dataset = frozen(prompts)
    names = {f"r{i:05}": prompt for i, prompt in enumerate(prompts)}
    near = pairs({name: prompt for name, prompt in names.items() if name not in repeated(dataset)})
    split = {row.record_id: row.split for row in dataset.rows}
    dropped = [drop for drop in dataset.drops if drop.reason != "duplicate"]
    assert all(frozenset((drop.record_id, drop.because_of)) in near for drop in dropped)
    missed = {tuple(pair) for pair in near if {*pair} <= split.keys() and len({split[name] for name in pair}) > 1}
    assert len(dropped) > 20
    assert len(missed) <= 0.02 * len(dropped)


def repeated(dataset: Frozen) -> set[str]:
    return {drop.record_id for drop in dataset.drops if drop.reason == "duplicate"}


@pytest.mark.parametrize("schemas", [1, 60])
def test_questions_on_one_schema_are_no_repetitions(schemas: int) -> None:
    """600 text-to-SQL prompts that share a schema of 300 words, or ten each, once left nothing to train on."""
    dice = random.Random(1)
    prompts = [f"{schema(i % schemas)} -- {' '.join(dice.choices(VOCABULARY, k=8))} ?" for i in range(600)]
    dataset = frozen(prompts)
    assert len(dataset.rows) == 600


def test_a_prompt_of_a_template_that_is_repeated_is_dropped_still() -> None:
    dice = random.Random(1)
    prompts = [f"{schema(0)} {' '.join(dice.choices(VOCABULARY, k=12))}" for _ in range(600)]
    again = [f"{prompt} please" for prompt in prompts]
    dataset = frozen([*prompts, *again])
    sides = {row.words: row.split for row in dataset.rows}
    assert len(dataset.drops) > 100
    assert not [prompt for prompt in sides if sides.get(f"{prompt} please", sides[prompt]) != sides[prompt]]
