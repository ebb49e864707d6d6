"""The rows of a data file or a folder of them: the one reader of the console and of ingestion."""

from collections.abc import Callable, Iterator
from functools import partial
from pathlib import Path
from typing import Literal

from services.chassis.rows import columnar, text
from services.chassis.rows.opened import GZIP, ZSTD, first_bytes
from services.chassis.rows.row import Row, Unreadable

COLUMNAR = {b"PAR1": columnar.parquet, b"ARROW1": columnar.arrow, b"\xff\xff\xff\xff": columnar.arrow}
"""By the first bytes: Parquet, an Arrow file, an Arrow stream."""
Kind = Literal["json", "jsonl", "csv", "tsv", "parquet", "arrow"]
SUFFIXES: dict[str, Kind] = {
    ".json": "json",
    ".jsonl": "jsonl",
    ".ndjson": "jsonl",
    ".csv": "csv",
    ".tsv": "tsv",
    ".tab": "tsv",
    ".parquet": "parquet",
    ".arrow": "arrow",
    ".feather": "arrow",
    ".ipc": "arrow",
}
PACKED = (".gz", ".gzip", ".zst", ".zstd")
TAKEN = "JSON lines, JSON, CSV, TSV, Parquet, Arrow or a saved dataset"
_READERS: dict[Kind, Callable[[Path], Iterator[Row]]] = {
    "jsonl": text.json_lines,
    "csv": partial(text.table, delimiter=","),
    "tsv": partial(text.table, delimiter="\t"),
    "parquet": columnar.parquet,
    "arrow": columnar.arrow,
}


def kind_of(name: str) -> Kind | None:
    """What a file's name says it is, .gz and .zst aside."""
    path = Path(name)
    while path.suffix.lower() in PACKED:
        path = path.with_suffix("")
    return SUFFIXES.get(path.suffix.lower())


def rows(path: Path, kind: Kind | None = None) -> Iterator[Row]:
    """The rows of a file, or of a folder: a saved dataset, or data files in the order of their names.

    The first bytes count more than the name: Parquet and Arrow are known by them, and JSON lines under .json too.

    Raises:
        Unreadable: it is nothing of that, it cannot be read, or it changed while it was read (`file_changed`).
    """
    if path.is_dir():
        yield from _together(_files(path))
    else:
        yield from _unchanged(path, kind)


def _unchanged(path: Path, kind: Kind | None) -> Iterator[Row]:
    before = fingerprint(path)
    try:
        yield from _reader(path, kind)(path)
    except Unreadable as error:  # half of a new file is often none that can be read
        _check_unchanged(path, before, error)
        raise
    _check_unchanged(path, before)


def _check_unchanged(path: Path, before: tuple[int, int], cause: Exception | None = None) -> None:
    if fingerprint(path) != before:
        said = f"{path.name} changed while it was read; some rows may be of before; send it again"
        raise Unreadable("file_changed", said) from cause


def fingerprint(path: Path) -> tuple[int, int]:
    """Size in bytes and time of change in nanoseconds.

    Raises:
        Unreadable: `cannot_read`.
    """
    try:
        found = path.stat()
    except OSError as error:
        raise Unreadable("cannot_read", f"{path}: {error.strerror or error}") from error
    return found.st_size, found.st_mtime_ns


def _reader(path: Path, kind: Kind | None) -> Callable[[Path], Iterator[Row]]:
    head = first_bytes(path)
    if found := next((reader for mark, reader in COLUMNAR.items() if head.startswith(mark)), None):
        return found
    kind = kind or kind_of(path.name) or _guess(path)
    if kind in ("parquet", "arrow") and head.startswith((GZIP, ZSTD)):
        raise Unreadable("packed", f"{path.name}: {kind} is packed within; unpack the file around it")
    if kind == "json":
        return text.json_lines if text.holds_lines(path) else text.json_values
    return _READERS[kind]


def _guess(path: Path) -> Kind:
    """A name that says nothing: JSON lines, as ever, where the file can be."""
    if Path(path.name).suffix.lower() not in ("", ".txt", *PACKED):
        raise Unreadable("unknown_kind", f"nothing is known of {path.suffix} files; give {TAKEN}")
    return "json"


def _files(folder: Path) -> list[Path]:
    if (folder / "state.json").is_file() or (folder / "dataset_dict.json").is_file():
        return columnar.saved_dataset(folder)
    inside = (path for path in folder.rglob("*") if path.is_file() and kind_of(path.name))
    found = sorted(path for path in inside if not any(part.startswith(".") for part in path.relative_to(folder).parts))
    if not found:
        raise Unreadable("unknown_kind", f"{folder} holds no data file; give {TAKEN}")
    return found


def _together(files: list[Path]) -> Iterator[Row]:
    """The rows of several files, numbered on; each file's share is by its size."""
    sizes = [fingerprint(path)[0] for path in files]
    whole, before, number = max(sum(sizes), 1), 0, 0
    for path, size in zip(files, sizes, strict=True):
        first = number
        for row in _unchanged(path, None):
            number = first + row.number
            yield Row(number, row.json, (before + row.share * size) / whole)
        before += size
