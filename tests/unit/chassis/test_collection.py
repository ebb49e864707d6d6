"""Artifacts are collected where nothing names them and they are old, on the local disk and on an object store."""

import os
import signal
import subprocess
import sys
import threading
import time
from datetime import UTC, datetime, timedelta
from pathlib import Path
from typing import Any

import pytest
from sqlalchemy import Engine
from sqlmodel import Session

from contracts.types import ArtifactRef
from services.chassis.jobs.queue import JobQueue
from services.chassis.messaging import outbox
from services.chassis.retention import references
from services.chassis.retention.references import CHASSIS, ArtifactReference
from services.chassis.retention.sweep import last_record, packed, record, sweep
from services.chassis.storage.artifacts import ArtifactStore, relative
from services.chassis.storage.database import reading, writing
from services.chassis.storage.tables import JobRow

NOW = datetime.now(UTC)
LATER = NOW + timedelta(days=1)
A, B, C = ("a" * 64, "b" * 64, "c" * 64)


@pytest.fixture(params=["file", "memory"])
def store(request: pytest.FixtureRequest, tmp_path: Path) -> ArtifactStore:
    return ArtifactStore(
        (tmp_path / "store").as_uri() if request.param == "file" else "memory:///bucket", tmp_path / "cache"
    )


def lies(store: ArtifactStore, ref: ArtifactRef) -> bool:
    return ref.sha256 in {each.sha256 for each in store.stored()}


def test_what_nobody_names_goes_and_what_somebody_names_stays(store: ArtifactStore) -> None:
    named, unnamed = store.put_bytes(b"named"), store.put_bytes(b"unnamed")
    dry = sweep(store, packed({named.sha256}), LATER, remove=False)
    assert (dry.named.objects, dry.garbage.objects, dry.garbage.bytes, dry.removed.objects) == (1, 1, 7, 0)
    assert [each.sha256 for each in dry.largest] == [unnamed.sha256]
    assert lies(store, unnamed)
    done = sweep(store, packed({named.sha256}), LATER, remove=True)
    assert (done.removed.objects, done.removed.bytes) == (1, 7)
    assert [each.sha256 for each in store.stored()] == [named.sha256]
    assert sweep(store, packed({named.sha256}), LATER, remove=True).garbage.objects == 0


def test_what_was_put_within_the_grace_period_stays(store: ArtifactStore) -> None:
    ref = store.put_bytes(b"in flight")
    found = sweep(store, set(), NOW - timedelta(days=1), remove=True)
    assert (found.young.objects, found.garbage.objects) == (1, 0)
    assert lies(store, ref)


def test_what_is_put_again_is_young_again(store: ArtifactStore) -> None:
    ref = store.put_bytes(b"twice")
    between = datetime.now(UTC)
    deadline = time.monotonic() + 5
    while store.put_bytes(b"twice") and next(iter(store.stored())).at <= between:
        assert time.monotonic() < deadline
    assert not store.remove(ref.sha256, between)
    assert lies(store, ref)


def test_a_removal_that_comes_twice_does_no_harm(store: ArtifactStore) -> None:
    ref = store.put_bytes(b"once")
    assert [store.remove(ref.sha256, LATER), store.remove(ref.sha256, LATER)] == [True, False]


def test_a_put_beside_a_sweep_is_never_lost(tmp_path: Path) -> None:
    store = ArtifactStore((tmp_path / "store").as_uri(), tmp_path / "cache")
    ref = store.put_bytes(b"contended")
    path, lost = tmp_path / "store" / relative(ref.sha256), list[int]()
    over = threading.Event()

    def collect() -> None:
        while not over.is_set():
            store.remove(ref.sha256, datetime.now(UTC) - timedelta(minutes=1))

    thread = threading.Thread(target=collect)
    thread.start()
    for n in range(300):
        if path.exists():
            os.utime(path, (1, 1))  # old: the sweep may take it from now on
        store.put_bytes(b"contended")
        if not path.exists():
            lost.append(n)
    over.set()
    thread.join()
    assert lost == []


def test_a_killed_sweep_is_begun_anew(tmp_path: Path) -> None:
    root = (tmp_path / "store").as_uri()
    store = ArtifactStore(root, tmp_path / "cache")
    kept = store.put_bytes(b"kept")
    for n in range(2000):
        store.put_bytes(f"garbage {n}".encode())
    program = f"""
from datetime import *; from pathlib import Path
from services.chassis.retention.sweep import *; from services.chassis.storage.artifacts import *
store = ArtifactStore({root!r}, Path("."))
print("begins", flush=True)
sweep(store, packed({{{kept.sha256!r}}}), datetime.now(UTC) + timedelta(days=1), remove=True)
"""
    child = subprocess.Popen([sys.executable, "-c", program], stdout=subprocess.PIPE)
    assert child.stdout is not None
    assert child.stdout.readline() == b"begins\n"
    deadline = time.monotonic() + 20
    while len(list(store.stored())) > 1900:
        assert time.monotonic() < deadline
    child.send_signal(signal.SIGKILL)
    child.wait()
    child.stdout.close()
    sweep(store, packed({kept.sha256}), LATER, remove=True)
    assert [each.sha256 for each in store.stored()] == [kept.sha256]
    assert store.read_bytes(kept) == b"kept"


def test_half_written_files_of_a_killed_process_go_when_they_are_old(tmp_path: Path) -> None:
    store = ArtifactStore((tmp_path / "store").as_uri(), tmp_path / "cache")
    store.put_bytes(b"a")
    left = tmp_path / "store" / "aside" / "0123"
    left.write_bytes(b"half")
    assert sweep(store, set(), NOW - timedelta(days=1), remove=True).left_aside.objects == 0
    assert sweep(store, set(), LATER, remove=False).left_aside.bytes == 4
    assert left.exists()
    sweep(store, set(), LATER, remove=True)
    assert not left.exists()


def test_the_store_holds_word_of_the_last_collection(store: ArtifactStore) -> None:
    assert last_record(store) is None
    for n in range(2):
        record(store, {"n": n})
    assert last_record(store) == {"n": 1}
    assert list(store.stored()) == []


def pages(
    engine: Engine, held: tuple[ArtifactReference, ...], limit: int, days: float = 0, now: datetime = NOW
) -> list[set[str]]:
    found: list[set[str]] = []
    place: Any = None
    while True:
        with reading(engine) as connection:
            page, place = references.page(connection, held, place, limit, days, now)
        assert place is None or references.fits(held, place)
        found.append(page)
        if place is None:
            return found


def test_events_on_their_way_and_jobs_name_artifacts_page_by_page(engine: Engine) -> None:
    with writing(engine) as connection, Session(connection) as session:
        rows = [("t", None, f'{{"files": {{"a": {{"sha256": "{digest}"}}}}}}'.encode(), "[]") for digest in (A, B)]
        outbox.put(connection, rows, NOW)
        JobQueue(session).enqueue("train", "j1", {"dataset": {"sha256": C}, "digest": "c" * 63}, project="p")
        session.flush()
    for limit in (1, 2, 100):
        assert set[str]().union(*pages(engine, CHASSIS, limit)) == {A, B, C}


def test_rows_of_the_past_let_go_only_where_a_setting_says_so(engine: Engine) -> None:
    job = CHASSIS[2].table
    held = (ArtifactReference(job, (job.c.spec,), job.c.created_at, job.c.kind == "wanted"),)
    with writing(engine) as connection, Session(connection) as session:
        for id, kind, digest, age in (("1", "wanted", A, 99), ("2", "rest", B, 99), ("3", "rest", C, 1)):
            moment = NOW - timedelta(days=age)
            session.add(JobRow(id=id, kind=kind, spec={"x": digest}, created_at=moment))
        session.flush()
    assert pages(engine, held, 10) == [{A, B, C}]
    assert pages(engine, held, 10, days=30) == [{A, C}]
