"""A file that is larger than the memory it may take: by the console, stopped in the middle, and uploaded; each record once."""

import gzip
import json
import random
import re
import signal
import subprocess
import sys
import uuid
from collections.abc import Callable, Iterator, Mapping
from dataclasses import dataclass
from pathlib import Path

import httpx
import pyarrow as pa
import pyarrow.parquet as pq
import pytest
from confluent_kafka import Producer

from contracts.envelope import encode, new_meta
from contracts.events.registry import ProjectDefinedV1
from contracts.project import ProjectSpec
from services.cli.record_files import LINES
from tests.broker import running
from tests.conftest import free_port
from tests.integration.service_process import Running, environment, running_service, until

MIB = 1 << 20
FILE, BOUND = 300 * MIB, 150 * MIB
"""Bytes of each file, unpacked, and by how much a process may grow."""
ROOT = Path(__file__).parents[2]
RECORD = 9_000
COUNT = FILE // RECORD
READ = """
import os, sys
from services.cli.record_files import batches
from tests.integration.test_large_files import peak
print(peak(os.getpid()), sum(len(batch.numbers) for batch in batches(sys.argv[1])), peak(os.getpid()))
"""


def lines(count: int) -> Iterator[str]:
    """Records of RECORD characters, each another."""
    pool = "".join(random.Random(1).choices("abcdefghij klmnopq rstuvwxyz ", k=4 * RECORD))
    for i in range(count):
        yield json.dumps({"record_id": f"r{i}", "record": {"text": f"{i} " + pool[i % RECORD :][: RECORD - 100]}})


def write_lines(path: Path, count: int) -> None:
    with path.open("w") as out:
        out.writelines(line + "\n" for line in lines(count))


def write_gzip(path: Path, count: int) -> None:
    with gzip.open(path, "wt", compresslevel=1) as out:
        out.writelines(line + "\n" for line in lines(count))


def write_array(path: Path, count: int) -> None:
    with path.open("w") as out:
        out.write("[")
        out.writelines(("," if i else "") + line for i, line in enumerate(lines(count)))
        out.write("]")


def write_parquet(path: Path, count: int) -> None:
    """One row group, as pandas writes up to a million rows."""
    rows = [json.loads(line) for line in lines(count)]
    texts = {"record_id": [row["record_id"] for row in rows], "text": [row["record"]["text"] for row in rows]}
    pq.write_table(pa.table(texts), path)


WRITERS: dict[str, Callable[[Path, int], None]] = {
    "a.jsonl": write_lines,
    "a.jsonl.gz": write_gzip,
    "a.json": write_array,
    "a.parquet": write_parquet,
}


def peak(pid: int) -> int:
    """Most bytes that a process held at once: VmHWM of proc(5); getrusage(2) begins with what its parent held."""
    found = re.search(r"VmHWM:\s+(\d+) kB", Path(f"/proc/{pid}/status").read_text())
    return int(found[1]) << 10 if found else 0


@pytest.mark.parametrize("name", WRITERS)
def test_a_file_is_read_in_bounded_memory(name: str, tmp_path: Path) -> None:
    """The same reader unpacks uploads."""
    WRITERS[name](tmp_path / name, COUNT)
    command = [sys.executable, "-c", READ, str(tmp_path / name)]
    done = subprocess.run(command, cwd=ROOT, capture_output=True, text=True, timeout=300, check=False)
    assert done.returncode == 0, done.stderr
    before, found, after = map(int, done.stdout.split())
    assert found == COUNT
    assert after - before < BOUND


@dataclass(frozen=True)
class Door:
    """Ingestion as a process, and how the console finds it."""

    service: Running
    environment: Mapping[str, str]
    kafka: str

    def define(self) -> str:
        """A new project."""
        project = f"p-{uuid.uuid4().hex[:8]}"
        event = ProjectDefinedV1(project=project, revision="0" * 64, spec=ProjectSpec(project=project, base="none"))
        producer = Producer({"bootstrap.servers": self.kafka})
        key, value, headers = encode(event, new_meta(event, "urn:test", str(uuid.uuid4())))
        producer.produce(type(event).TOPIC, key=key, value=value, headers=list(headers))
        assert producer.flush(10) == 0
        until("the project", lambda: httpx.get(f"{self.service.url}/v1/projects/{project}/records/counts").is_success)
        return project

    def records(self, project: str) -> dict[str, int]:
        """How often records were accepted, refused and came again."""
        counts = httpx.get(f"{self.service.url}/v1/projects/{project}/records/counts", timeout=30).json()
        return {name: counts[name] for name in ("accepted", "records", "unchanged", "refused")}

    def ingest(self, project: str, path: Path) -> subprocess.Popen[str]:
        """`noria ingest`."""
        command = [str(Path(sys.executable).parent / "noria"), "ingest", project, str(path), "--json"]
        return subprocess.Popen(
            command,
            env=self.environment,
            text=True,
            stdout=subprocess.PIPE,
            stderr=subprocess.PIPE,
            preexec_fn=heeding_interrupts,
        )


def heeding_interrupts() -> None:
    """A shell that runs the tests in the background has their children ignore Ctrl-C."""
    signal.signal(signal.SIGINT, signal.SIG_DFL)


@pytest.fixture(scope="module")
def door(tmp_path_factory: pytest.TempPathFactory) -> Iterator[Door]:
    home = tmp_path_factory.mktemp("door")
    port = free_port()
    with running() as broker, running_service("ingestion", home, broker.bootstrap, port) as found:
        yield Door(found, environment("ingestion", home, broker.bootstrap, port), broker.bootstrap)


ONCE = {"accepted": COUNT, "records": COUNT, "unchanged": 0, "refused": 0}


def test_the_console_stopped_in_the_middle_sends_each_record_once(door: Door, tmp_path: Path) -> None:
    project, path = door.define(), tmp_path / "a.jsonl"
    write_lines(path, COUNT)
    before, state = peak(door.service.pid), Path(door.environment["NORIA_HOME"]) / "state" / "ingest"
    first = door.ingest(project, path)
    until("some records", lambda: door.records(project)["records"] > COUNT // 10, seconds=120)
    first.send_signal(signal.SIGINT)
    _, said = first.communicate(timeout=60)
    assert (first.returncode, "the same command goes on" in said) == (130, True), said
    [kept] = state.iterdir()
    done = json.loads(kept.read_text())["done"]["row"]
    assert 0 < done < COUNT
    second = door.ingest(project, path)
    out, said = second.communicate(timeout=300)
    assert (second.returncode, json.loads(out)["accepted_count"]) == (0, COUNT), said
    until("all records", lambda: door.records(project)["records"] == COUNT, seconds=120)
    counts = door.records(project)
    assert counts | {"unchanged": 0} == ONCE
    assert counts["unchanged"] < LINES, "at most the batch that was on the way when it was stopped"
    assert peak(door.service.pid) - before < BOUND


@pytest.mark.parametrize("name", ["a.json", "a.jsonl"])
def test_an_upload_is_taken_in_bounded_memory(name: str, door: Door, tmp_path: Path) -> None:
    project, path = door.define(), tmp_path / name
    WRITERS[name](path, COUNT)
    before = peak(door.service.pid)
    url = f"{door.service.url}/v1/projects/{project}/records"
    with path.open("rb") as file:
        if name == "a.json":
            answer = httpx.post(url, content=file, headers={"content-type": "application/json"}, timeout=300)
        else:
            answer = httpx.post(url, files={"file": (name, file)}, timeout=300)
    assert (answer.status_code, answer.json()["accepted_count"]) == (202, COUNT), answer.text[:1000]
    until("all records", lambda: door.records(project)["records"] == COUNT, seconds=120)
    assert door.records(project) == ONCE
    assert peak(door.service.pid) - before < BOUND
    assert [each.name for each in (Path(door.environment["NORIA_HOME"]) / "uploads").iterdir()] == [".collecting"]
