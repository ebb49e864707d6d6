"""Canonical JSON: one text for one content, whatever the order of keys, blanks, escapes and form of numbers it came in.

Close to RFC 8785 (JSON Canonicalization Scheme), with two differences: keys are sorted by code point, and whole numbers
of any size are kept exactly.
"""

import json
from hashlib import sha256
from typing import Any

_ENCODER = json.JSONEncoder(sort_keys=True, separators=(",", ":"), ensure_ascii=False)
_MAKE: Any = getattr(json.encoder, "c_make_encoder", None)
_ENCODE: Any = _MAKE and _MAKE(
    None, _ENCODER.default, json.encoder.encode_basestring, None, ":", ",", True, False, True
)
"""What `JSONEncoder.encode` makes anew at each call, for longer than it takes to write a small value."""


def canonical(value: Any) -> str:
    """JSON with sorted keys and no blanks: equal values have equal text."""
    return "".join(_ENCODE(value, 0)) if _ENCODE else _ENCODER.encode(value)


def digest(text: str) -> str:
    """SHA-256 of the text's UTF-8, in hex."""
    return sha256(text.encode()).hexdigest()


def content(raw: bytes) -> Any:
    """The value of JSON text, 1, 1.0 and 1e0 being one number: `canonical` writes one text for one content.

    Raises:
        ValueError: it is no JSON or no UTF-8.
        RecursionError: it is nested too deep.
    """
    return _DECODER.decode(raw.decode())


def _number(written: str) -> float | int:
    value = float(written)
    return int(value) if value.is_integer() else value


_DECODER = json.JSONDecoder(parse_float=_number)
