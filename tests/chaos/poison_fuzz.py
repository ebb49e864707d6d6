"""Fuzzes the parsers of foreign bytes by coverage (atheris, libFuzzer); a crash prints its input. Starts no service.

Run: python -m tests.chaos.poison_fuzz TARGET --seconds 60     TARGET: envelope, batch, lines or yaml
"""

import argparse
import json
import resource
import sys
import tempfile
from collections.abc import Callable
from pathlib import Path
from typing import Any

import atheris
from aiokafka.codec import gzip_encode, lz4_encode, snappy_encode, zstd_encode

FUZZER: Any = atheris
with FUZZER.instrument_imports(include=["contracts", "services", "yaml"]):
    from contracts.envelope import STRUCTURED, Header, Malformed, decode, encode
    from contracts.events.upstream import RecordSubmittedV1
    from services.chassis.messaging.kafka.aiokafka_patches import LenientRecords
    from services.chassis.rows.row import Unreadable
    from services.cli.project_file import parse
    from services.cli.yaml_file import FileInvalid
    from services.ingestion.record_reader import of_json, of_jsonl

HEADER_BYTES = 61
REQUIRED: list[Header] = [
    ("ce_specversion", b"1.0"),
    ("ce_id", b"1"),
    ("ce_source", b"urn:fuzz"),
    ("ce_type", b"io.noria.upstream.record.submitted.v1"),
]


def envelope(data: bytes) -> None:
    """The first byte says how much is a header's value; the rest is one of binary mode, or a structured event."""
    cut, rest = (data[0], data[1:]) if data else (0, b"")
    mode = [("content-type", STRUCTURED.encode())] if cut % 2 else REQUIRED
    try:
        found = decode(RecordSubmittedV1, [*mode, ("ce_time", rest[:cut])], rest[cut:])
    except Malformed as error:
        json.dumps(str(error), ensure_ascii=False).encode()
        return
    encode(found.data, found.meta)


def batch(data: bytes) -> None:
    """A record batch with a sound frame and anything in it; attributes from the first byte."""
    body = data[1:]
    attributes = bytes([0, data[0] & 0x0F]) if data else b"\0\0"
    head = bytes(8) + (49 + len(body)).to_bytes(4, "big") + b"\0\0\0\0\2" + bytes(4) + attributes
    head += bytes(4) + bytes(16) + b"\xff" * 14 + b"\0\0\0\2"
    assert len(head) == HEADER_BYTES
    records = LenientRecords(head + body)
    while records.has_next():
        for record in records.next_batch():
            assert record.offset is not None


def lines(data: bytes) -> None:
    """An upload, as JSONL and as JSON: what is taken and what is refused can both be sent on."""
    with tempfile.NamedTemporaryFile(dir="/dev/shm") as file:
        path = Path(file.name)
        path.write_bytes(data)
        for read in (of_jsonl, of_json):
            try:
                for found in read(path, "p"):
                    for _, event in found.taken:
                        event.model_dump_json()
                    json.dumps([refusal.detail for refusal in found.refused], ensure_ascii=False).encode()
            except (Malformed, Unreadable) as error:
                str(error).encode()


def yaml(data: bytes) -> None:
    """A project file."""
    try:
        parse(data)
    except FileInvalid as error:
        str(error).encode()


TARGETS: dict[str, Callable[[bytes], None]] = {
    "envelope": envelope,
    "batch": batch,
    "lines": lines,
    "yaml": yaml,
}
SEEDS: dict[str, tuple[bytes, ...]] = {
    "envelope": (
        b'\x142026-01-31T12:00:00Z{"project": "p", "record_id": "r", "record": {"text": "a"}}',
        b'\x01x{"specversion": "1.0", "id": "1", "source": "s", "type": "io.noria.upstream.record.submitted.v1",'
        b' "data": {"project": "p", "record_id": "r", "tags": {"t": "\\ud83d\\ude00"}, "record": {"text": "a"}}}',
    ),
    "batch": tuple(
        bytes([codec]) + pack(b"\x18\0\0\0\x02k\x02v\x02\x02n\x02w\x18\0\0\x02\x02k\x02v\x02\x02n\x02w")
        for codec, pack in enumerate((bytes, gzip_encode, snappy_encode, lz4_encode, zstd_encode))
    ),
    "lines": (
        b'{"record": {"text": "a"}, "tags": {"t": "\\ud83d\\ude00"}, "subject": "s", "record_id": "r"}\n{"text": "b"}',
        b'[{"messages": [{"role": "user", "content": "\\ud83d\\ude00"}, {"role": "assistant", "content": "b"}]}]',
        b'{"record": "{\\"prompt\\": \\"a\\", \\"completion\\": \\"b\\"}", "tags": [["t", "\\ud83d\\ude00"]]}',
    ),
    "yaml": (
        b'project: p\nbase: b\nprep: {held_out: 0.15, freeze: {quiet: 20s}}\ngate: {require: ["chrf > champion"]}\n',
        b'project: "\\ud83d\\ude00"\nbase: !!str b\ntrain:\n  seed: 7\n  learning_rate: 1.0e-3\n',
    ),
}
"""From where libFuzzer goes on: without them it hardly gets past the outermost syntax."""


def main() -> None:
    """Fuzzes one target for a time; libFuzzer ends the process."""
    parser = argparse.ArgumentParser(prog="python -m tests.chaos.poison_fuzz", description=__doc__)
    parser.add_argument("target", choices=TARGETS)
    parser.add_argument("--seconds", type=int, default=60)
    arguments = parser.parse_args()
    folder = Path(tempfile.mkdtemp(prefix="noria-fuzz-"))  # libFuzzer ends the process, and adds what it finds
    for number, seed in enumerate(SEEDS[arguments.target]):
        (folder / str(number)).write_bytes(seed)
    # libFuzzer looks at the peak that getrusage tells, which a process has from the one that started it.
    most = resource.getrusage(resource.RUSAGE_SELF).ru_maxrss // 1024 + 2048
    options = [sys.argv[0], str(folder), f"-max_total_time={arguments.seconds}", f"-rss_limit_mb={most}", "-timeout=10"]
    FUZZER.Setup(options, TARGETS[arguments.target])
    FUZZER.Fuzz()


if __name__ == "__main__":
    main()
