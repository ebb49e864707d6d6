"""Rows of text files: JSON lines, a JSON array or objects one after the other, CSV and TSV."""

import csv
import json
import sys
from collections.abc import Generator, Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import Any

from services.chassis.rows.depth import Shallow
from services.chassis.rows.opened import opened
from services.chassis.rows.row import MAX_LINE, Row, Unreadable, flaw, line, plain

MAX_CELLS = 1000
BLOCK = 1 << 16


def json_lines(path: Path) -> Iterator[Row]:
    """A row a line, as it stands; blank lines are skipped and counted."""
    with opened(path) as file:
        number = 0
        while raw := file.readline(MAX_LINE + 1):
            number += 1
            if len(raw) > MAX_LINE:
                while raw and not raw.endswith(b"\n"):
                    raw = file.readline(MAX_LINE)
                yield Row(number, flaw("too_large", f"the line has more than {MAX_LINE} bytes"), file.share)
            elif text := raw.strip():
                yield Row(number, text, file.share)


def json_values(path: Path) -> Iterator[Row]:
    """The items of an array, or objects that stand one after the other, over several lines each perhaps.

    Raises:
        Unreadable: `not_json`, `too_deep`.
    """
    import ijson

    with opened(path) as file, _integers_of_any_length():
        inside = "item" if _begins_array(path) else ""
        try:
            items: Iterator[Any] = ijson.items(
                Shallow(file, path.name), inside, multiple_values=not inside, buf_size=BLOCK
            )
            for number, value in enumerate(items, 1):
                yield Row(number, _json(value), file.share)
        except (ijson.JSONError, ValueError) as error:
            if isinstance(error, UnicodeDecodeError | Unreadable):
                raise
            raise Unreadable("not_json", f"{path.name} is not JSON: {str(error).splitlines()[0]}"[:300]) from error


@contextmanager
def _integers_of_any_length() -> Generator[None]:
    """For ijson 3.6 ends the process (a null pointer) where Python refuses an integer of more than 4,300 digits.

    Who reads the row refuses it then, by itself.
    """
    limit = sys.get_int_max_str_digits()
    sys.set_int_max_str_digits(0)
    try:
        yield
    finally:
        sys.set_int_max_str_digits(limit)


def _json(value: Any) -> bytes:
    return json.dumps(value, ensure_ascii=False, default=plain).encode(errors="surrogatepass")


def _begins_array(path: Path) -> bool:
    with opened(path) as file:
        return file.read(BLOCK).lstrip()[:1] == b"["


def holds_lines(path: Path) -> bool:
    """Whether the first line that is not blank is a JSON object by itself, as in JSON lines under another name."""
    with opened(path) as file:
        while raw := file.readline(MAX_LINE):
            if raw.strip():
                return _is_object(raw)
    return True


def _is_object(raw: bytes) -> bool:
    try:
        return isinstance(json.loads(raw), dict)
    except (ValueError, RecursionError):
        return False


def table(path: Path, delimiter: str) -> Iterator[Row]:
    """The rows of CSV (RFC 4180) or TSV by its header; an empty cell is not given. Quotes, line feeds and quoted quotes are.

    Raises:
        Unreadable: `not_csv`, `no_header`, `too_many_columns`.
    """
    csv.field_size_limit(MAX_LINE)
    with opened(path) as file:
        reader = csv.reader(file.text(), delimiter=delimiter, strict=True)
        try:
            header = [name.strip() for name in next(reader, [])]
            _check_header(header, path.name, delimiter)
            for number, cells in enumerate(filter(None, reader), 1):
                yield Row(number, _cells(header, cells), file.share)
        except csv.Error as error:
            where = f"{path.name}, line {reader.line_num}"
            raise Unreadable("not_csv", f"{where}: {error}; quote cells that hold quotes or line ends") from error


def _check_header(header: list[str], name: str, delimiter: str) -> None:
    if len(header) > MAX_CELLS:
        raise Unreadable("too_many_columns", f"{name} has {len(header)} columns; at most {MAX_CELLS} are taken")
    if not any(header):
        raise Unreadable("no_header", f"{name} has no header line that names its columns")
    if len(set(header)) < len(header):
        twice = next(each for each in header if header.count(each) > 1)
        raise Unreadable("no_header", f"{name} has two columns of the name {twice[:60]!r}; give each its own")
    if len(header) == 1 and (other := next((d for d in ",;\t|" if d != delimiter and d in header[0]), None)):
        raise Unreadable("not_csv", f"{name} seems to be separated by {other!r}; separate by {delimiter!r}")


def _cells(header: list[str], cells: list[str]) -> bytes:
    if len(cells) > len(header):
        return flaw(
            "bad_row", f"the row has {len(cells)} cells, the header {len(header)}; quote cells that hold the separator"
        )
    return line({name: cell or None for name, cell in zip(header, cells, strict=False) if name})
