"""How deep JSON nests, told from its bytes before a parser sees them."""

import re
from itertools import accumulate
from typing import Protocol

from services.chassis.rows.row import Unreadable

MAX_DEPTH = 500
"""No record nests as deep; ijson keeps the whole way to each level, 6 GB where 100 KB nest 50,000 deep."""
_STRING = re.compile(rb'"(?:[^"\\]|\\.)*+"', re.DOTALL)
_NO_BRACKET = bytes(set(range(256)) - set(b"[]{}"))
_STEP = {byte: 1 if byte in b"[{" else -1 for byte in b"[]{}"}


class Source(Protocol):
    """A file that is read in blocks."""

    def read(self, size: int = -1, /) -> bytes:
        """The next block, empty at the end."""
        ...


class Shallow:
    """A file of JSON that refuses to be read on where it nests deeper than MAX_DEPTH."""

    def __init__(self, file: Source, name: str) -> None:
        self._file, self._name = file, name
        self._depth, self._in_string, self._escape = 0, False, b""

    def read(self, size: int = -1) -> bytes:
        """The next block.

        Raises:
            Unreadable: `too_deep`.
        """
        block = self._file.read(size)
        if self._deepest(block) > MAX_DEPTH:
            raise Unreadable("too_deep", f"{self._name} nests deeper than {MAX_DEPTH}; is it a file of records?")
        return block

    def _deepest(self, block: bytes) -> int:
        data = self._escape + block
        slashes = len(data) - len(data.rstrip(b"\\"))
        self._escape = b"\\" if slashes % 2 else b""
        data = data[: len(data) - slashes % 2]
        outside = _STRING.sub(b"", b'"' + data if self._in_string else data)
        outside, quote, _ = outside.partition(b'"')  # what is left of one begins a string that the next block ends
        self._in_string = bool(quote)
        depths = [*accumulate((_STEP[b] for b in outside.translate(None, _NO_BRACKET)), initial=self._depth)]
        self._depth = depths[-1]
        return max(depths)
