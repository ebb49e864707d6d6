import json
from pathlib import Path
from typing import Any

import pyarrow as pa
import pyarrow.parquet as pq
import pytest
from hypothesis import given
from hypothesis import strategies as st

from contracts.canonical import canonical
from services.prep import browse, parquet
from services.prep.domain.filters import DROP_FIELDS, ROW_FIELDS, Filter, FilterInvalid, parse, parse_all

ORDER = ("digest", "record_id")


@pytest.mark.parametrize(
    ("raw", "found"),
    [
        ("record_id = r 1 ", Filter("record_id", "=", "r 1")),
        ('record_id="r 1"', Filter("record_id", "=", "r 1")),
        ('subject != ""', Filter("subject", "!=", "")),
        ("revision>=2", Filter("revision", ">=", 2)),
        ("record ~ git = push", Filter("record", "~", "git = push")),
        (r'record ~ "say \"hi\""', Filter("record", "~", 'say "hi"')),
        (r'tags.path = "C:\\new\tar"', Filter("tags", "=", r"C:\new\tar", "path")),
        (r"record ~ a\"b", Filter("record", "~", r"a\"b")),
        (r'tags."the \"old\" one" = x', Filter("tags", "=", "x", 'the "old" one')),
        ("tags.tool = tar", Filter("tags", "=", "tar", "tool")),
        ('tags."my tag" != x', Filter("tags", "!=", "x", "my tag")),
    ],
)
def test_a_filter_is_read(raw: str, found: Filter) -> None:
    assert parse(raw, ROW_FIELDS) == found


@pytest.mark.parametrize(
    ("raw", "said"),
    [
        ("", "FIELD OP VALUE, FIELD one of record_id, revision"),
        ("tool = tar", "no field 'tool'; give FIELD one of record_id, .*tags.NAME"),
        ("reason = duplicate", "no field 'reason'"),
        ("revision ~ 2", "revision is not compared by ~; give one of = != < <= > >="),
        ("revision = two", "revision is a whole number, not 'two'"),
        ("revision = 99999999999999999999", "whole number"),
        ("record = x", "record is not compared by =; give one of ~"),
        ("tags.tool > t", "a tag is not compared by >"),
        ("tags. = t", "is no filter"),
        ("digest = " + "x" * 1000, "is no filter"),
    ],
)
def test_a_wrong_filter_is_told_with_what_there_is(raw: str, said: str) -> None:
    with pytest.raises(FilterInvalid, match=said):
        parse(raw, ROW_FIELDS)


def test_filters_are_few_and_drops_have_their_own_fields() -> None:
    assert parse("reason = duplicate", DROP_FIELDS).value == "duplicate"
    with pytest.raises(FilterInvalid, match="too many"):
        parse_all(["revision = 1"] * 21, ROW_FIELDS)


def file(folder: Path, rows: list[dict[str, Any]], group: int = 3) -> Path:
    full = [
        {"revision": 1, "format": "text", "record": "{}", "prompt_key": "k", "tags": "{}", "subject": None} | row
        for row in rows
    ]
    full.sort(key=lambda row: (row["digest"], row["record_id"]))
    path = folder / "rows.parquet"
    pq.write_table(pa.Table.from_pylist(full, schema=parquet.SCHEMA), path, row_group_size=group)
    return path


def pages(path: Path, limit: int, *where: str) -> list[list[str]]:
    """The record ids, page by page."""
    found: list[list[str]] = []
    place: browse.Place | None = None
    while True:
        rows, place = browse.page(path, ORDER, parse_all(where, ROW_FIELDS), ["record_id"], place, limit)
        found.append([row["record_id"] for row in rows])
        if place is None:
            return found


def test_pages_hold_every_row_once_in_its_order(tmp_path: Path) -> None:
    path = file(tmp_path, [{"digest": f"d{i // 4}", "record_id": f"r{i:02}"} for i in range(20)])
    whole = [f"r{i:02}" for i in range(20)]
    assert pages(path, 20) == [whole]
    assert pages(path, 7) == [whole[:7], whole[7:14], whole[14:]]
    assert pages(path, 3, "revision = 1", "record_id > r15") == [whole[16:19], whole[19:]]
    assert pages(path, 5, "revision > 1") == [[]]


def test_each_operator_filters(tmp_path: Path) -> None:
    rows = [
        {"digest": "a", "record_id": "r1", "subject": "ann", "record": canonical({"text": 'Say "git push"\nÄ'})},
        {"digest": "b", "record_id": "r2", "tags": canonical({"tool": "tar", "n": "1"}), "revision": 2},
        {"digest": "c", "record_id": "r3", "tags": canonical({"x": '{"tool":"tar"', "tool": "ta"})},
    ]
    path = file(tmp_path, rows)

    def ids(*where: str) -> list[str]:
        return pages(path, 10, *where)[0]

    assert ids('record ~ "git PUSH"') == ["r1"]
    assert ids('record ~ say "git') == ["r1"]
    assert ids(r'record ~ "say \"git"') == ["r1"]
    assert ids('record ~ push"\nä') == ["r1"]
    assert ids("tags.tool = tar") == ["r2"]
    assert ids("tags.tool != tar") == ["r1", "r3"]
    assert ids("tags.n = 1", "revision = 2") == ["r2"]
    assert ids("subject = ann") == ["r1"]
    assert ids("subject != ann") == ["r2", "r3"]
    assert ids("digest <= b") == ["r1", "r2"]


def test_a_page_ends_before_it_is_too_long(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(browse, "MOST_BYTES", 100)
    path = file(tmp_path, [{"digest": f"d{i}", "record_id": f"r{i}", "record": f'"{"x" * 60}"'} for i in range(5)])
    rows, place = browse.page(path, ORDER, (), ["record_id", "record"], None, 5)
    assert ([row["record_id"] for row in rows], place) == (["r0", "r1"], ("d1", "r1"))


def test_row_groups_outside_are_not_read(tmp_path: Path) -> None:
    path = file(tmp_path, [{"digest": f"d{i}", "record_id": f"r{i}"} for i in range(9)])
    whole = path.read_bytes()
    group = pq.ParquetFile(path).metadata.row_group(0).column(0)
    start = min(o for o in (group.dictionary_page_offset, group.data_page_offset) if o)
    path.write_bytes(
        whole[:start] + b"\xff" * group.total_compressed_size + whole[start + group.total_compressed_size :]
    )
    with pytest.raises(OSError, match=r"(?i)deserialize|corrupt|unexpected|no more"):
        browse.page(path, ORDER, (), ["record_id"], None, 5)
    rows, _ = browse.page(path, ORDER, (), ["record_id"], ("d2", "r2"), 5)
    assert [row["record_id"] for row in rows] == ["r3", "r4", "r5", "r6", "r7"]


TAGS = st.dictionaries(st.text('ab",:{}\\', min_size=1, max_size=3), st.text('ab",:{}\\', max_size=3), max_size=3)


@given(
    tags=st.lists(TAGS, min_size=1, max_size=4),
    name=st.sampled_from(["a", "b", "ab", "a,", "b:"]),
    value=st.text('ab",', max_size=2),
)
def test_a_tag_is_found_exactly(tags: list[dict[str, str]], name: str, value: str) -> None:
    import pyarrow.dataset as ds

    table = pa.table({"tags": [canonical(each) for each in tags]})
    found = ds.dataset(table).to_table(filter=browse.condition(Filter("tags", "=", value, name)))
    assert found.column("tags").to_pylist() == [canonical(each) for each in tags if each.get(name) == value]
    rest = ds.dataset(table).to_table(filter=browse.condition(Filter("tags", "!=", value, name)))
    assert [json.loads(each) for each in rest.column("tags").to_pylist()] == [t for t in tags if t.get(name) != value]
