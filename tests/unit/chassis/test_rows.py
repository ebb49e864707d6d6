"""One set of rows in every kind of file that people have: the same JSON comes out of each. And what is none is named."""

import codecs
import csv
import gzip
import io
import json
import resource
from collections.abc import Callable
from pathlib import Path
from typing import Any
from unittest.mock import patch

import pyarrow as pa
import pytest
from hypothesis import HealthCheck, given, settings
from hypothesis import strategies as st
from pyarrow import feather, ipc, parquet

from services.chassis.rows import columnar, reading
from services.chassis.rows import text as text_rows
from services.chassis.rows.depth import Shallow
from services.chassis.rows.reading import kind_of, rows
from services.chassis.rows.row import Unreadable
from tests.unit.contracts.values import JSON_VALUES

ROWS: list[dict[str, Any]] = [
    {"prompt": "Größe\u2028 日本", "completion": 'say "hi"\r\n, then\x0bgo'},
    {"prompt": "q", "completion": "a", "note": "x"},
    {"prompt": "only"},
]
TABLE = pa.Table.from_pylist(ROWS, schema=pa.schema([(name, pa.string()) for name in ("prompt", "completion", "note")]))


def jsonl(items: list[Any], end: str = "\n") -> str:
    return end.join(json.dumps(item, ensure_ascii=False) for item in items) + end


def separated(delimiter: str) -> str:
    out = io.StringIO()
    writer = csv.DictWriter(out, ["prompt", "completion", "note"], delimiter=delimiter)
    writer.writeheader()
    writer.writerows(ROWS)
    return out.getvalue()


def zstd(data: bytes) -> bytes:
    return pa.compress(data, "zstd", asbytes=True)


def arrow_bytes(make: Callable[..., Any]) -> bytes:
    out = io.BytesIO()
    with make(out, TABLE.schema) as writer:
        writer.write_table(TABLE)
    return out.getvalue()


def parquet_bytes(table: Any) -> bytes:
    out = io.BytesIO()
    parquet.write_table(table, out)
    return out.getvalue()


LINES, ARRAY = jsonl(ROWS), json.dumps(ROWS, indent=1)
FILES: dict[str, bytes] = {
    "a.jsonl": LINES.encode(),
    "crlf.ndjson": jsonl(ROWS, "\r\n").encode(),
    "bom.jsonl": codecs.BOM_UTF8 + LINES.encode(),
    "utf16.jsonl": LINES.encode("utf-16"),
    "utf16be-no-mark.jsonl": LINES.encode("utf-16-be"),
    "utf32.jsonl": LINES.encode("utf-32"),
    "lines.json": LINES.encode(),
    "array.json": ARRAY.encode(),
    "bom.json": codecs.BOM_UTF8 + ARRAY.encode(),
    "utf16.json": ARRAY.encode("utf-16"),
    "one after the other.json": "\n".join(json.dumps(row, indent=2) for row in ROWS).encode(),
    "a.jsonl.gz": gzip.compress(LINES.encode()),
    "two members.jsonl.gz": gzip.compress(jsonl(ROWS[:1]).encode()) + gzip.compress(jsonl(ROWS[1:]).encode()),
    "a.jsonl.zst": zstd(LINES.encode()),
    "two frames.jsonl.zst": zstd(jsonl(ROWS[:1]).encode()) + zstd(jsonl(ROWS[1:]).encode()),
    "utf16.jsonl.gz": gzip.compress(LINES.encode("utf-16")),
    "array.json.gz": gzip.compress(ARRAY.encode()),
    "no suffix": LINES.encode(),
    "a.csv": separated(",").encode(),
    "excel.csv": codecs.BOM_UTF8 + separated(",").encode(),
    "utf16.csv": separated(",").encode("utf-16"),
    "a.tsv": separated("\t").encode(),
    "a.csv.gz": gzip.compress(separated(",").encode()),
    "a.parquet": parquet_bytes(TABLE),
    "misnamed.jsonl": parquet_bytes(TABLE),
    "large.parquet": parquet_bytes(TABLE.cast(pa.schema([(name, pa.large_string()) for name in TABLE.column_names]))),
    "dictionary.parquet": parquet_bytes(
        pa.table({name: TABLE[name].dictionary_encode() for name in TABLE.column_names})
    ),
    "file.arrow": arrow_bytes(ipc.new_file),
    "stream.arrow": arrow_bytes(ipc.new_stream),
}


def read(path: Path) -> list[Any]:
    return [json.loads(row.json) for row in rows(path)]


@pytest.mark.parametrize("name", FILES)
def test_every_kind_of_file_gives_the_same_rows(name: str, tmp_path: Path) -> None:
    (tmp_path / name).write_bytes(FILES[name])
    found = list(rows(tmp_path / name))
    assert [json.loads(row.json) for row in found] == ROWS
    assert found[-1].share > 0.95
    if "one after" not in name and not name.startswith("two"):
        assert [row.number for row in found] == [1, 2, 3]


def test_a_saved_dataset_and_a_folder_of_shards_are_read_in_order(tmp_path: Path) -> None:
    """As `datasets` 4 writes it: state.json beside shards that are Arrow streams."""
    split = tmp_path / "saved" / "train"
    split.mkdir(parents=True)
    names = [f"data-0000{i}-of-00002.arrow" for i in range(2)]
    for name in names:
        (split / name).write_bytes(FILES["stream.arrow"])
    (split / "state.json").write_text(json.dumps({"_data_files": [{"filename": name} for name in names]}))
    (split / "dataset_info.json").write_text("{}")
    assert read(split) == ROWS * 2
    (tmp_path / "saved" / "dataset_dict.json").write_text('{"splits": ["train"]}')
    assert read(tmp_path / "saved") == ROWS * 2
    (tmp_path / "saved" / "dataset_dict.json").write_text('{"splits": ["train", "test"]}')
    with pytest.raises(Unreadable, match="train, test; name one"):
        read(tmp_path / "saved")
    shards = tmp_path / "shards"
    shards.mkdir()
    (shards / "0.parquet").write_bytes(FILES["a.parquet"])
    (shards / "1.jsonl").write_bytes(FILES["a.jsonl"])
    (shards / "README.md").write_text("no data")
    found = list(rows(shards))
    assert [row.number for row in found] == [1, 2, 3, 4, 5, 6]
    assert [json.loads(row.json) for row in found] == ROWS * 2
    assert sorted(row.share for row in found) == [row.share for row in found]


def test_tables_of_pandas_and_nested_columns_are_read(tmp_path: Path) -> None:
    turn = pa.struct([("role", pa.string()), ("content", pa.string()), ("weight", pa.int64())])
    columns = {
        "id": pa.array([2**60, 2], pa.int64()),
        "messages": pa.array(
            [[{"role": "user", "content": "q"}], [{"role": "user", "content": "r", "weight": 1}]], pa.list_(turn)
        ),
        "tags": pa.array([[("a", "b")], []], pa.map_(pa.string(), pa.string())),
        "score": pa.array([1.5, float("nan")]),
        "__index_level_0__": pa.array([7, 8]),
    }
    about = {b"pandas": json.dumps({"index_columns": ["__index_level_0__"], "columns": []}).encode()}
    parquet.write_table(pa.table(columns).replace_schema_metadata(about), tmp_path / "a.parquet")
    feather.write_feather(pa.table(columns).replace_schema_metadata(about), str(tmp_path / "a.feather"), "lz4")
    expected = [
        {"id": 2**60, "messages": [{"role": "user", "content": "q"}], "tags": {"a": "b"}, "score": 1.5},
        {"id": 2, "messages": [{"role": "user", "content": "r", "weight": 1}], "tags": {}},
    ]
    assert read(tmp_path / "a.parquet") == read(tmp_path / "a.feather") == expected


BROKEN: list[tuple[str, bytes, str, str]] = [
    ("a.json", b"{", "not_json", "is not JSON"),
    ("a.json", b'[{"a": NaN}]', "not_json", "is not JSON"),
    ("a.parquet", b"{", "not_parquet", "is not Parquet"),
    ("a.parquet", b"PAR1 no PAR1", "not_parquet", "is not Parquet"),
    ("a.arrow", b"ARROW1 no", "not_arrow", "is not Arrow"),
    ("a.jsonl.gz", gzip.compress(LINES.encode())[:-9], "bad_archive", "cannot be unpacked"),
    ("a.jsonl.zst", zstd(LINES.encode())[:-9], "cannot_read", "zst"),
    ("a.xlsx", b"PK\x03\x04", "unknown_kind", ".xlsx"),
    ("a.csv", b"PK\x03\x04", "not_text", "spreadsheet"),
    ("a.parquet.gz", gzip.compress(b"PAR1"), "packed", "unpack"),
    ("a.csv", b"prompt;completion\nq;a\n", "not_csv", "';'"),
    ("a.csv", b'a,b\n"x', "not_csv", "line 2"),
    ("a.csv", b"a,a\n1,2\n", "no_header", "'a'"),
    ("a.csv", b"", "no_header", "header"),
    ("a.csv", b",".join([b"%d" % i for i in range(10**6)]), "too_many_columns", "1000000 columns"),
    ("a.csv", "prompt\nGröße\n".encode("latin-1"), "not_utf8", "save it as UTF-8"),
    ("a.jsonl", b"\x00\x00\x00\x00", "not_text", "NUL"),
    ("a.jsonl", LINES.encode("utf-16")[:-1], "not_utf8", "UTF-16"),
]


@pytest.mark.parametrize(
    ("name", "content", "code", "words"), BROKEN, ids=[f"{name} {code}" for name, _, code, _ in BROKEN]
)
def test_what_cannot_be_read_is_named(name: str, content: bytes, code: str, words: str, tmp_path: Path) -> None:
    (tmp_path / name).write_bytes(content)
    with pytest.raises(Unreadable, match=words) as refused:
        list(rows(tmp_path / name))
    assert refused.value.code == code


def test_a_row_that_is_none_is_told_in_its_place(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    (tmp_path / "a.csv").write_text("a,b\n1,2\n1,2,3\n\n4\n")
    assert [(row.number, json.loads(row.json)) for row in rows(tmp_path / "a.csv")] == [
        (1, {"a": "1", "b": "2"}),
        (2, "bad_row: the row has 3 cells, the header 2; quote cells that hold the separator"),
        (3, {"a": "4"}),
    ]
    monkeypatch.setattr(text_rows, "MAX_LINE", 20)
    monkeypatch.setattr(columnar, "MAX_LINE", 20)
    (tmp_path / "a.jsonl").write_bytes(b'{"text": "' + b"x" * 99 + b'"}\n\n{"text": "y"}\n' + b"y" * 21)
    found = [(row.number, json.loads(row.json)) for row in rows(tmp_path / "a.jsonl")]
    assert found == [(1, "too_large: the line has more than 20 bytes"), (3, {"text": "y"}), (4, found[2][1])]
    parquet.write_table(pa.table({"text": ["x" * 99, "y"]}), tmp_path / "a.parquet")
    assert [type(value) for value in read(tmp_path / "a.parquet")] == [str, dict]
    (tmp_path / "a.json").write_text('[{"n":\n' + "9" * 5000 + '}, {"n": 1}]')
    assert [len(row.json) for row in rows(tmp_path / "a.json")] == [5007, 8], "and the process is still there"


@pytest.mark.parametrize("deep", ["[" * 50_000 + "]" * 50_000, '{"a":[1,' * 50_000 + "1" + "]}" * 50_000])
def test_json_that_nests_without_end_takes_no_memory(tmp_path: Path, deep: str) -> None:
    (tmp_path / "a.json").write_text('[{"a": 1}, ' + deep + "]")
    before = resource.getrusage(resource.RUSAGE_SELF).ru_maxrss
    with pytest.raises(Unreadable, match="nests deeper than 500") as refused:
        read(tmp_path / "a.json")
    assert refused.value.code == "too_deep"
    assert resource.getrusage(resource.RUSAGE_SELF).ru_maxrss - before < 50_000  # KiB


TEXTS = st.text(st.sampled_from('[]{}"\\ax'), max_size=20)
VALUES = st.recursive(
    TEXTS | st.integers(), lambda of: st.lists(of, max_size=4) | st.dictionaries(TEXTS, of, max_size=4)
)


def depth_of(value: Any) -> int:
    parts = list(value.values()) if isinstance(value, dict) else value if isinstance(value, list) else None
    return 0 if parts is None else 1 + max(map(depth_of, parts), default=0)


def in_blocks(text: bytes, size: int) -> bytes:
    file = Shallow(io.BytesIO(text), "a.json")
    return b"".join(iter(lambda: file.read(size), b""))


@given(VALUES, st.integers(1, 7))
def test_depth_is_told_whatever_strings_hold_and_wherever_a_block_ends(value: Any, size: int) -> None:
    text, depth = json.dumps(value).encode(), depth_of(value)
    with patch("services.chassis.rows.depth.MAX_DEPTH", depth):
        assert in_blocks(text, size) == text
    with patch("services.chassis.rows.depth.MAX_DEPTH", depth - 1), pytest.raises(Unreadable, match="nests"):
        in_blocks(text, size)


def test_a_file_that_changes_while_it_is_read_is_named(tmp_path: Path) -> None:
    path = tmp_path / "a.jsonl"
    path.write_bytes(LINES.encode() * 2)
    found = rows(path)
    next(found)
    with path.open("ab") as more:
        more.write(b"{}\n")
    with pytest.raises(Unreadable, match="changed while") as refused:
        list(found)
    assert refused.value.code == "file_changed"


def test_half_of_a_new_file_is_a_change_and_no_fault_of_the_file(tmp_path: Path) -> None:
    path = tmp_path / "a.json"
    path.write_text(json.dumps([{"text": "x" * 1000}] * 500))
    found = rows(path)
    next(found)
    path.write_text('[{"text": "new')
    with pytest.raises(Unreadable, match="changed while") as refused:
        list(found)
    assert refused.value.code == "file_changed"


def test_a_name_says_what_a_file_is() -> None:
    assert kind_of("A.JSONL.GZ") == "jsonl"
    assert kind_of("x.tar") is None
    assert set(reading.SUFFIXES.values()) == {"json", "jsonl", "csv", "tsv", "parquet", "arrow"}


CELLS = st.text(st.characters(exclude_categories=["Cs"]), min_size=1, max_size=8)


@settings(max_examples=60, deadline=None, suppress_health_check=[HealthCheck.function_scoped_fixture])
@given(st.lists(st.dictionaries(st.sampled_from(["a", "b", "c"]), CELLS, min_size=1), min_size=1, max_size=5))
def test_any_texts_come_through_csv(tmp_path: Path, items: list[dict[str, str]]) -> None:
    with (tmp_path / "a.csv").open("w", newline="", encoding="utf-8") as out:
        writer = csv.DictWriter(out, ["a", "b", "c"])
        writer.writeheader()
        writer.writerows(items)
    assert read(tmp_path / "a.csv") == items


@settings(max_examples=60, deadline=None, suppress_health_check=[HealthCheck.function_scoped_fixture])
@given(st.lists(st.dictionaries(CELLS, JSON_VALUES, min_size=1, max_size=3), min_size=1, max_size=4), st.integers(0, 3))
def test_any_objects_come_through_json(tmp_path: Path, items: list[Any], indent: int) -> None:
    (tmp_path / "a.json").write_text(json.dumps(items, indent=indent or None, ensure_ascii=indent % 2 == 0))
    assert read(tmp_path / "a.json") == items
    (tmp_path / "b.json").write_text(jsonl(items), encoding="utf-8")
    assert read(tmp_path / "b.json") == items
