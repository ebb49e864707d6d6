"""A text file opened as UTF-8 bytes: unpacked where it is gzip or zstd, recoded where it is UTF-16, without byte order mark.

Told by its first bytes, not by its name. Holds no more than a buffer of it.
"""

import codecs
import gzip
import io
import zlib
from collections.abc import Generator
from contextlib import contextmanager
from pathlib import Path
from typing import IO, Any

from services.chassis.rows.row import Unreadable

GZIP, ZSTD, ZIP = b"\x1f\x8b", b"\x28\xb5\x2f\xfd", b"PK\x03\x04"
BUFFER = 1 << 20
_MARKS = (  # the longer first: UTF-32's mark begins with UTF-16's
    (codecs.BOM_UTF32_LE, "utf-32"), (codecs.BOM_UTF32_BE, "utf-32"),
    (codecs.BOM_UTF16_LE, "utf-16"), (codecs.BOM_UTF16_BE, "utf-16"),
    (codecs.BOM_UTF8, "utf-8-sig"),
)  # fmt: skip


class Opened:
    """A text file that is open. `share` is how much of it has been read, by bytes on disk."""

    def __init__(self, raw: IO[bytes], size: int) -> None:
        self._raw, self._size = raw, max(size, 1)
        self.bytes = io.BufferedReader(_unpacked(raw), BUFFER)
        self.encoding = _encoding(self.bytes.peek(64)[:64])
        if self.encoding == "utf-8-sig":
            self.bytes.read(len(codecs.BOM_UTF8))
            self.encoding = "utf-8"
        self._text = None if self.encoding == "utf-8" else self._recoded()

    @property
    def share(self) -> float:
        """How much of the file has been read, from 0 to 1."""
        return min(1.0, self._raw.tell() / self._size)

    def _recoded(self) -> io.TextIOWrapper:
        return io.TextIOWrapper(self.bytes, self.encoding, newline="\n")

    def text(self) -> io.TextIOWrapper:
        """The file as text, line ends as they are."""
        return self._text or self._recoded()

    def readline(self, limit: int = -1) -> bytes:
        """The next line as UTF-8, at most `limit` bytes of it."""
        return self.bytes.readline(limit) if self._text is None else self._text.readline(limit).encode()

    def read(self, size: int = -1) -> bytes:
        """The next bytes as UTF-8."""
        return self.bytes.read(size) if self._text is None else self._text.read(size).encode()


@contextmanager
def opened(path: Path) -> Generator[Opened]:
    """The file.

    Raises:
        Unreadable: `cannot_read`, `not_text`, `bad_archive` where it is packed and broken, `not_utf8`.
    """
    try:
        with path.open("rb") as raw:
            yield Opened(raw, path.stat().st_size)
    except UnicodeDecodeError as error:
        what = f"{path.name} is not {error.encoding.upper()} ({error.reason}); save it as UTF-8"
        raise Unreadable("not_utf8", what) from error
    except (EOFError, zlib.error, gzip.BadGzipFile) as error:
        raise Unreadable("bad_archive", f"{path.name} cannot be unpacked: {error}") from error
    except OSError as error:
        raise Unreadable("cannot_read", f"{path.name}: {error.strerror or error}") from error


def first_bytes(path: Path, count: int = 8) -> bytes:
    """The first bytes as they lie on disk."""
    try:
        with path.open("rb") as raw:
            return raw.read(count)
    except OSError as error:
        raise Unreadable("cannot_read", f"{path.name}: {error.strerror or error}") from error


def _unpacked(raw: IO[bytes]) -> Any:
    head = raw.read(4)
    raw.seek(0)
    if head.startswith(GZIP):
        return gzip.GzipFile(fileobj=raw, mode="rb")
    if head == ZSTD:
        import pyarrow as pa

        return pa.CompressedInputStream(pa.PythonFile(raw, "r"), "zstd")
    if head == ZIP:
        raise Unreadable("not_text", "the file is a ZIP archive (or a spreadsheet); unpack it, or save it as CSV")
    return raw


def _encoding(head: bytes) -> str:
    """By the mark; without one UTF-16 has a NUL in each of its first characters, which JSON and CSV begin with plain ones."""
    marked = next((name for mark, name in _MARKS if head.startswith(mark)), None)
    if marked:
        return marked
    if len(head) >= 4 and b"\x00" in head[:4]:
        if head[1] == head[3] == 0 and head[0] and head[2]:
            return "utf-16-le"
        if head[0] == head[2] == 0 and head[1] and head[3]:
            return "utf-16-be"
        raise Unreadable("not_text", "the file is no text: it begins with NUL bytes")
    return "utf-8"
