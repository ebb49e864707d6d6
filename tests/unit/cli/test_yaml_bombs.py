"""A hostile project file is refused in bounded time and memory, with its line; none raises anything else."""

import time
import tracemalloc

import pytest
from hypothesis import given
from hypothesis import strategies as st

from services.cli.project_file import parse
from services.cli.yaml_file import FileInvalid
from services.cli.yaml_lines import YamlRefused, load

LAUGHS = b"a: &a [x, x, x]\n" + b"".join(b"%c: &%c [*%c, *%c]\n" % (c, c, c - 1, c - 1) for c in range(98, 122))


@pytest.mark.parametrize(
    ("raw", "message"),
    [
        (LAUGHS, r"line 2: the alias \*a is not taken"),
        (b"[" * 100_000, "nested deeper"),
        (b"{a: " * 50_000, "nested deeper"),
        (b"- " * 100_000, "nested deeper"),
        (b"a:\n" + b" - x\n" * 21_000, "more than 20000 values"),
        (b"a: " + b"x" * 300_000, "at most 262144"),
        (b"project: p\na: " + b"9" * 50_000, "line 2: the number 9"),
        (b"a: " + b"1:" * 25_000 + b"1", "more than 100 characters"),
        (b"a: 0x" + b"f" * 50_000, "more than 100 characters"),
        (
            b"a: !!python/object/apply:os.system [id]\n",
            "line 1: the tag tag:yaml.org,2002:python/object/apply:os.system",
        ),
        (b"!!python/object:os.X {a: 1}\n", "the tag tag:yaml.org,2002:python/object:os.X is not taken"),
        (b"a: !!python/name:os.system ''\n", "line 1: '' cannot be read"),
        (b"a: !!set {x}\n", "the tag tag:yaml.org,2002:set is not taken"),
        (b"a: !!int ''\n", "line 1: '' cannot be read"),
        (b"a: !!bool x\n", "line 1: 'x' cannot be read"),
        (b"a: !!timestamp x\n", "line 1: 'x' cannot be read"),
        (b'project: "\\ud800"\n', "half of a surrogate pair"),
        (b'"\\udfff": 1\n', "half of a surrogate pair"),
    ],
)
def test_bomb_is_refused_at_once(raw: bytes, message: str) -> None:
    begun = time.process_time()
    tracemalloc.start()
    try:
        with pytest.raises(FileInvalid, match=message):
            parse(raw)
        _, peak = tracemalloc.get_traced_memory()
    finally:
        tracemalloc.stop()
    assert peak < 40_000_000
    assert time.process_time() - begun < 15  # tracemalloc slows it tenfold


_WORDS = st.sampled_from(
    [
        *("project: p", "a", ": ", "- ", "\n", "  ", "[", "]", "{", "}", "<<", "? ", "| ", "'", '"', "\\ud800", "---"),
        *("!!int ", "!!bool ", "!!timestamp ", "!!binary ", "!!float ", "!x ", "&a ", "*a", "%TAG", "#", "="),
        *("1:1", "0x", ".inf", "~", "2001-01-01"),
    ]
)


@given(st.binary(max_size=60) | st.lists(_WORDS, max_size=14).map(lambda words: "".join(words).encode()))
def test_load_raises_nothing_else(raw: bytes) -> None:
    try:
        document = load(raw)
    except YamlRefused as error:
        refused = str(error)
    else:
        refused = repr(document.value)
    assert refused.encode()
