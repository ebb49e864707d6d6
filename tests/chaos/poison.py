"""Poisoned messages for the tiny service: one of each sort, and mutations by seeded dice. Sends nothing.

Run: python -m tests.chaos.poison --count 100000 --seed 1
"""

import json
import random
from collections.abc import Iterator, Sequence
from dataclasses import dataclass, replace
from typing import Literal

Headers = list[tuple[str, bytes | None]]
Expectation = Literal["dead", "done", "either"]
STRUCTURED = b"application/cloudevents+json"


@dataclass(frozen=True, slots=True)
class Poison:
    """A message and its fate: dead with one of `reasons` (any where there are none), done, or either."""

    sort: str
    key: bytes | None
    value: bytes | None
    headers: Headers
    expectation: Expectation
    reasons: frozenset[str] = frozenset()
    timestamp: int = 0
    """Milliseconds since 1970; 0 lets the producer set it."""


def good(topic: str, number: int, id: str, key: str = "good", text: str = "") -> Poison:
    """A valid ping."""
    headers: Headers = [
        ("ce_specversion", b"1.0"),
        ("ce_id", id.encode()),
        ("ce_source", b"poison"),
        ("ce_type", f"io.noria.{topic}".encode()),
        ("ce_time", b"2026-01-31T12:00:00Z"),
        ("content-type", b"application/json"),
    ]
    value = json.dumps({"project": key, "number": number, "do": "note", "text": text}).encode()
    return Poison("good", key.encode(), value, headers, "done")


def corpus(topic: str, prefix: str = "corpus") -> list[Poison]:
    """One message a sort, each under an id of its own; `id_conflict` follows the message whose id it takes."""
    base = [good(topic, -1 - n, f"{prefix}-{n}", "poison") for n in range(200)]
    fresh = iter(base)
    found = [*_headers(fresh), *_bodies(fresh), *_structured(fresh), *_keys_and_times(fresh)]
    first = next(fresh)
    other = replace(first, sort="id_conflict", value=(first.value or b"").replace(b'"text": ""', b'"text": "other"'))
    return [*found, replace(first, sort="before id_conflict"), _dead(other, "id_conflict")]


def messages(topic: str, seed: int, count: int) -> Iterator[Poison]:
    """`count` messages, the same for a seed: entries of the corpus and mutations of valid messages."""
    dice = random.Random(seed)
    for number in range(count):
        base = good(topic, -1000 - number, f"{seed}-{number}", f"poison-{dice.randrange(50)}")
        yield dice.choice(_MUTATIONS)(base, dice)


def _dead(poison: Poison, *reasons: str, sort: str | None = None) -> Poison:
    return replace(poison, expectation="dead", reasons=frozenset(reasons), sort=sort or poison.sort)


def _with(poison: Poison, name: str, value: bytes | None) -> Poison:
    return replace(poison, headers=[(n, v) for n, v in poison.headers if n != name] + [(name, value)])


def _headers(fresh: Iterator[Poison]) -> Iterator[Poison]:
    bad: Sequence[tuple[str, str, bytes | None, str]] = (
        ("null header", "ce_id", None, "bad_header"),
        ("header not UTF-8", "ce_source", b"\xff\xfe", "bad_header"),
        ("surrogate in a header", "ce_id", b"\xed\xa0\x80", "bad_header"),
        ("NUL in an id", "ce_id", b"a\x00b", "bad_header"),
        ("NUL in a source", "ce_source", b"a\x00b", "bad_header"),
        ("endless id", "ce_id", b"i" * 100_000, "bad_header"),
        ("empty id", "ce_id", b"", "missing_attribute"),
        ("wrong version", "ce_specversion", b"2.0", "unsupported"),
        ("wrong content type", "content-type", b"application/x-protobuf", "unsupported"),
        ("wrong type", "ce_type", b"io.noria.other.v1", "wrong_type"),
        ("year 0", "ce_time", b"0000-01-01T00:00:00Z", "bad_header"),
        ("year 9999", "ce_time", b"9999-12-31T23:59:59-14:00", "bad_header"),
        ("no time at all", "ce_time", b"yesterday", "bad_header"),
    )
    for sort, name, value, reason in bad:
        yield _dead(_with(next(fresh), name, value), reason, sort=sort)
    done: Sequence[tuple[str, str, bytes | None]] = (
        ("reply_to", "reply_to", b"elsewhere"),
        ("correlation_id", "correlation_id", b"\xff"),
        ("foreign null header", "x-null", None),
        ("foreign header of 900 kB", "x-large", b"x" * 900_000),
        ("control characters in a subject", "ce_subject", b"\x01\x1b[2J\r\n"),
        ("trace context that is none", "traceparent", b'00-"-\\-"'),
    )
    for sort, name, value in done:
        yield replace(_with(next(fresh), name, value), sort=sort)
    for sort, name in (("control characters in an id", "ce_id"), ("control characters in a source", "ce_source")):
        base = next(fresh)
        yield replace(_with(base, name, (dict(base.headers)["ce_id"] or b"") + b"\x01\x1b[2J\r\n\x7f"), sort=sort)
    yield _dead(replace(next(fresh), headers=[]), "missing_attribute", sort="no headers")
    base = next(fresh)
    yield replace(base, sort="10,000 headers", headers=[*base.headers, *((f"x-{n}", b"") for n in range(10_000))])
    base = next(fresh)
    yield _dead(
        replace(base, headers=[*base.headers, *((f"x-{n}", b"") for n in range(60_000))], value=b"{"),
        "not_json",
        sort="60,000 headers and no JSON",
    )


def _bodies(fresh: Iterator[Poison]) -> Iterator[Poison]:
    bad: Sequence[tuple[str, bytes | None, tuple[str, ...]]] = (
        ("null value", None, ("no_value",)),
        ("empty value", b"", ("not_json",)),
        ("not UTF-8", b'{"project": "\xff"}', ("not_utf8",)),
        ("NUL bytes", b"\x00" * 1000, ("not_json",)),
        ("lone surrogate", b'{"project": "\\ud800", "number": 1}', ("not_json", "invalid_data")),
        ("NaN", b'{"project": "p", "number": NaN}', ("not_json", "invalid_data")),
        ("Infinity", b'{"project": "p", "number": -Infinity}', ("not_json", "invalid_data")),
        ("1e999999", b'{"project": "p", "number": 1e999999}', ("not_json", "invalid_data")),
        ("100,000 digits", b'{"project": "p", "number": ' + b"7" * 100_000 + b"}", ("not_json", "invalid_data")),
        ("deep list", b"[" * 100_000, ("too_deep", "not_json")),
        ("deep object", b'{"a":' * 100_000, ("too_deep", "not_json")),
        ("deep and closed", b"[" * 100_000 + b"]" * 100_000, ("too_deep", "not_json", "invalid_data")),
        ("text of 900 kB", b'"' + b"x" * 900_000 + b'"', ("invalid_data",)),
        ("field twice, the last wrong", b'{"project": "p", "number": 1, "number": "x"}', ("invalid_data",)),
        ("a list", b"[1, 2]", ("invalid_data",)),
        ("number of 30 digits", b'{"project": "p", "number": ' + b"7" * 30 + b"}", ("handler_failed", "unstorable")),
    )
    for sort, value, reasons in bad:
        yield _dead(replace(next(fresh), value=value), *reasons, sort=sort)
    base = next(fresh)
    yield replace(base, sort="field twice", value=b'{"number": 7,' + (base.value or b"")[1:])
    base = next(fresh)
    nul = (base.value or b"").replace(b'"text": ""', b'"text": "a\\u0000b"')
    yield replace(base, sort="NUL in a text", value=nul, expectation="either", reasons=frozenset({"unstorable"}))
    base = next(fresh)
    path = (base.value or b"").replace(b'"poison"', b'"../../etc/passwd"')
    yield replace(base, sort="../ in a name", value=path)


def _structured(fresh: Iterator[Poison]) -> Iterator[Poison]:
    def whole(base: Poison, **change: object) -> Poison:
        attributes = {n[3:]: (v or b"").decode() for n, v in base.headers if n.startswith("ce_")}
        body = {**attributes, "data": json.loads(base.value or b""), **change}
        return replace(base, headers=[("content-type", STRUCTURED)], value=json.dumps(body).encode())

    yield replace(whole(next(fresh)), sort="structured")
    yield _dead(whole(next(fresh), id="\ud800"), "bad_header", sort="structured, lone surrogate as id")
    yield _dead(whole(next(fresh), subject="\ud800"), "bad_header", sort="structured, lone surrogate as subject")
    yield _dead(whole(next(fresh), id=7), "missing_attribute", sort="structured, id a number")
    yield _dead(whole(next(fresh), data="e30="), "invalid_data", sort="structured, data a text")
    yield _dead(
        whole(next(fresh), data={"project": "\ud800"}), "not_json", "invalid_data", sort="structured, surrogate"
    )
    yield _dead(replace(whole(next(fresh)), value=b"[" * 100_000), "too_deep", "not_json", sort="structured, deep")


def _keys_and_times(fresh: Iterator[Poison]) -> Iterator[Poison]:
    yield replace(next(fresh), sort="null key", key=None)
    yield replace(next(fresh), sort="empty key", key=b"")
    yield replace(next(fresh), sort="binary key", key=bytes(range(256)))
    yield replace(
        next(fresh), sort="key of 900 kB", key=b"k" * 900_000, expectation="dead", reasons=frozenset({"bad_key"})
    )
    yield replace(next(fresh), sort="record time before 1970", timestamp=-1, expectation="either")
    yield replace(next(fresh), sort="record time 2^62", timestamp=1 << 62, expectation="either")


def _flip(poison: Poison, dice: random.Random) -> Poison:
    data = bytearray(poison.value or b"")
    for _ in range(dice.randint(1, 4)):
        data[dice.randrange(len(data))] = dice.randrange(256)
    return replace(poison, sort="bytes changed", value=bytes(data), expectation="either")


def _cut(poison: Poison, dice: random.Random) -> Poison:
    data = poison.value or b""
    return _dead(replace(poison, value=data[: dice.randrange(len(data) - 1)]), sort="cut short")


def _drop(poison: Poison, dice: random.Random) -> Poison:
    name = dice.choice(["ce_id", "ce_source", "ce_type", "ce_specversion"])
    headers = [(n, v) for n, v in poison.headers if n != name]
    return _dead(replace(poison, headers=headers), "missing_attribute", sort="attribute missing")


def _garble(poison: Poison, dice: random.Random) -> Poison:
    name = dice.choice(poison.headers)[0]
    garbled = _with(poison, name, dice.choice([None, dice.randbytes(dice.randrange(1, 40))]))
    return replace(garbled, sort="header garbled", expectation="either")


def _noise(poison: Poison, dice: random.Random) -> Poison:
    return _dead(replace(poison, value=dice.randbytes(dice.randrange(2, 400))), sort="noise")


def _wrap(poison: Poison, dice: random.Random) -> Poison:
    deep = dice.choice([b"[", b'{"a":']) * dice.randint(1, 3000)
    return _dead(replace(poison, value=deep + (poison.value or b"")), sort="wrapped")


def _valid(poison: Poison, dice: random.Random) -> Poison:
    return replace(_with(poison, "x-noise", dice.randbytes(8)), sort="valid")


_MUTATIONS = (_flip, _cut, _drop, _garble, _noise, _wrap, _valid)


if __name__ == "__main__":
    from tests.chaos.poison_run import main

    main()
