import os
import signal
import subprocess
import sys
from pathlib import Path

from compose.local import orphans

DEAF = "import signal, time; signal.signal(15, signal.SIG_IGN); print('up', flush=True); time.sleep(60)"
PLAIN = "import time; print('up', flush=True); time.sleep(60)"


def supervised(home: Path, code: str, marker: str = "1") -> subprocess.Popen[str]:
    variables = {**os.environ, "NORIA_HOME": str(home), "SUPERVISOR_ENABLED": marker}
    process = subprocess.Popen([sys.executable, "-c", code], env=variables, stdout=subprocess.PIPE, text=True)
    assert process.stdout is not None
    assert process.stdout.readline() == "up\n"
    return process


def test_processes_of_this_home_end_and_others_stay(tmp_path: Path) -> None:
    mine = supervised(tmp_path / "mine", PLAIN)
    deaf = supervised(tmp_path / "mine", DEAF)
    other = supervised(tmp_path / "other", PLAIN)
    shell = supervised(tmp_path / "mine", PLAIN, marker="0")
    try:
        assert sorted(orphans.end(tmp_path / "mine", seconds=0.3)) == sorted([mine.pid, deaf.pid])
        assert mine.wait(5) == -signal.SIGTERM
        assert deaf.wait(5) == -signal.SIGKILL
        assert other.poll() is None
        assert shell.poll() is None
    finally:
        for process in (mine, deaf, other, shell):
            process.kill()
            process.wait()
            assert process.stdout is not None
            process.stdout.close()


def test_nothing_to_end_is_no_error(tmp_path: Path) -> None:
    assert orphans.end(tmp_path) == []
