"""Texts stay as they were sent; what they are compared by does not see their Unicode form, line ends and outer blanks."""

import json
import re
import unicodedata
from pathlib import Path

import pyarrow as pa
import pyarrow.parquet as pq
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from contracts.preparation import Prep
from services.prep.domain import normalise
from services.prep.domain.reading import Reading, read
from services.prep.domain.rows import Accepted
from services.prep.domain.splits import split_of
from services.prep.parquet import SCHEMA, Part
from tests.unit.prep.frames import freeze, measured

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


def read_of(record: Accepted) -> Reading:
    return read(record.format, record.record)


@settings(max_examples=300, deadline=None)
@given(texts, texts)
def test_a_row_holds_the_texts_that_were_sent(prompt: str, completion: str) -> None:
    made = read_of(accepted(prompt, completion))
    assert json.loads(made.record) == {"prompt": prompt, "completion": completion}
    assert (made.prompt, made.completion) == (prompt, completion)


@settings(max_examples=300, deadline=None)
@given(texts, texts)
def test_the_split_is_a_function_of_the_normalised_prompt(prompt: str, completion: str) -> None:
    made = read_of(accepted(prompt, completion))
    for form in (unicodedata.normalize("NFD", prompt), f"\n {prompt}\r\n", re.sub("\r\n|\r|\n", "\r\n", prompt)):
        again = read_of(accepted(form, completion))
        assert (again.prompt_key, again.words) == (made.prompt_key, made.words)
        assert split_of(again.prompt_key, Prep()) == split_of(made.prompt_key, Prep())
        assert again.content == made.content
    assert tuple(made.words.split(" ") if made.words else ()) == normalise.words(
        normalise.text(prompt) or normalise.text(completion)
    )


@pytest.mark.parametrize("text", AS_SENT)
def test_the_file_of_a_split_holds_the_texts_that_were_sent(text: str, tmp_path: Path) -> None:
    table = measured([accepted(text, text)])
    for name, value in {"revision": 1}.items():
        table = table.append_column(SCHEMA.field(name), pa.array([value], SCHEMA.field(name).type))
    part = Part(tmp_path / "train.parquet", SCHEMA)
    part.add(table)
    part.close()
    [found] = pq.read_table(tmp_path / "train.parquet").column("record").to_pylist()
    assert json.loads(found) == {"prompt": text, "completion": text}


def test_a_text_in_another_form_is_another_version_of_the_dataset() -> None:
    versions = {freeze([accepted("q", text)], PREP).version for text in ("x", "x\n", "  x")}
    assert len(versions) == 3


def test_white_space_around_is_not_a_completion_and_counts_towards_no_least_length() -> None:
    found = freeze([accepted("q", " \r\n\t")], PREP)
    assert found.drops_by_reason() == {"empty": 1}
    found = freeze([accepted("q", "  x\n")], Prep(min_chars=2, held_out=0, validation=0))
    assert found.drops_by_reason() == {"too_short": 1}
