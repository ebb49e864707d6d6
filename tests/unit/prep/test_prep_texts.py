"""Texts stay as they were sent; what they are compared by does not see their Unicode form, line ends and outer blanks."""

import json
import re
import unicodedata
from pathlib import Path

import pyarrow.parquet as pq
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from contracts.project import Prep
from services.prep import parquet
from services.prep.domain import normalise, pipeline
from services.prep.domain.reading import row
from services.prep.domain.rows import Accepted

PREP = Prep(held_out=0, validation=0, deduplicate="none")
AS_SENT = (
    "    return x\n",
    "cafe\u0301",
    "caf\u00e9",
    "a\r\nb\r",
    "\u3000全角\u3000",
    "ﬁn\u00a0",
    "x\u2028y\x0b",
    "\tif\n\n\n",
)
texts = st.one_of(st.sampled_from(AS_SENT), st.text(max_size=40))


def accepted(prompt: str, completion: str) -> Accepted:
    record = {"prompt": prompt, "completion": completion}
    return Accepted("a", 1, "prompt_completion", json.dumps(record), "{}", None)


@settings(max_examples=300, deadline=None)
@given(texts, texts)
def test_a_row_holds_the_texts_that_were_sent(prompt: str, completion: str) -> None:
    made = row(accepted(prompt, completion), PREP)
    assert json.loads(made.record) == {"prompt": prompt, "completion": completion}
    assert (made.prompt, made.completion) == (prompt, completion)


@settings(max_examples=300, deadline=None)
@given(texts, texts)
def test_the_split_is_a_function_of_the_normalised_prompt(prompt: str, completion: str) -> None:
    made = row(accepted(prompt, completion), Prep())
    for form in (unicodedata.normalize("NFD", prompt), f"\n {prompt}\r\n", re.sub("\r\n|\r|\n", "\r\n", prompt)):
        again = row(accepted(form, completion), Prep())
        assert (again.prompt_key, again.split, again.words) == (made.prompt_key, made.split, made.words)
        assert again.content == made.content
    assert made.words == normalise.words(normalise.text(prompt) or normalise.text(completion))


@pytest.mark.parametrize("text", AS_SENT)
def test_the_file_of_a_split_holds_the_texts_that_were_sent(text: str, tmp_path: Path) -> None:
    dataset = pipeline.freeze([accepted(text, text)], PREP)
    parquet.write(dataset.split("train"), tmp_path / "train.parquet")
    [found] = pq.read_table(tmp_path / "train.parquet").column("record").to_pylist()
    assert json.loads(found) == {"prompt": text, "completion": text}


def test_a_text_in_another_form_is_another_version_of_the_dataset() -> None:
    versions = {pipeline.freeze([accepted("q", text)], PREP).version for text in ("x", "x\n", "  x")}
    assert len(versions) == 3


def test_white_space_around_is_not_a_completion_and_counts_towards_no_least_length() -> None:
    found = pipeline.freeze([accepted("q", " \r\n\t")], PREP)
    assert found.drops_by_reason() == {"empty": 1}
    found = pipeline.freeze([accepted("q", "  x\n")], Prep(min_chars=2, held_out=0, validation=0))
    assert found.drops_by_reason() == {"too_short": 1}
