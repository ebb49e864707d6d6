"""A program gets its secret argument, and neither its process list nor its children's environment shows it."""

import json
import os
import signal
import subprocess
import sys

import pytest

from services.serving.triton import secret_argv

ARGUMENTS = ["plain", "--key=a:sekrit", "", "--other=sekrit"]
RUN = """
import os, sys
from services.serving.triton import secret_argv, watchdog
assert watchdog.begin("http://127.0.0.1:9", "") is None
shown, env = secret_argv.hide(sys.argv[1:], os.environ, "sekrit")
os.execve(shown[0], shown, env)
"""
SHOW = """
import json, os, pathlib, subprocess, sys
listed = pathlib.Path("/proc/self/cmdline").read_bytes().decode()
print(json.dumps([sys.argv[1:], "sekrit" in listed.partition("\\0-c\\0")[2].partition("\\0")[2], dict(os.environ)]))
"""


def test_the_program_gets_what_the_list_does_not_show() -> None:
    show = subprocess.run(
        [sys.executable, "-c", RUN, sys.executable, "-c", SHOW, *ARGUMENTS], capture_output=True, text=True, check=True
    )
    given, listed, environment = json.loads(show.stdout)
    assert given == ARGUMENTS
    assert not listed
    assert not [name for name in environment if name.startswith(secret_argv.NAME)]
    assert environment.items() >= {k: v for k, v in os.environ.items() if k != "PYTEST_CURRENT_TEST"}.items()


def test_a_system_that_forbids_it_says_why_and_the_program_starts() -> None:
    forbidden = "def seize(pid): raise PermissionError('forbidden here')\nsecret_argv.seize = seize\n"
    run = RUN.replace("assert", forbidden + "assert").replace("is None", "== 'forbidden here'")
    done = subprocess.run(
        [sys.executable, "-c", run, "/bin/echo", "started"], capture_output=True, text=True, check=True
    )
    assert done.stdout == "started\n"


def test_a_tracer_that_dies_takes_the_program_with_it() -> None:
    run = RUN.replace("assert", "secret_argv.reveal = lambda pid: os._exit(1)\nassert")
    done = subprocess.run([sys.executable, "-c", run, "/bin/echo", "a=sekrit"], capture_output=True, check=False)
    assert (done.returncode, done.stdout) == (-signal.SIGKILL, b"")


def test_arguments_without_the_secret_stay() -> None:
    shown, env = secret_argv.hide(["/bin/x", "--a=b", "--key=a:sekrit"], {"HOME": "/"}, "sekrit")
    assert shown == ["/bin/x", "--a=b", "--key=hidden"]
    assert env == {"HOME": "/", f"{secret_argv.NAME}2": "--key=a:sekrit"}


def test_a_process_that_is_not_there_cannot_be_seized() -> None:
    with pytest.raises(OSError, match="No such"):
        secret_argv.seize(2**22 + 1)
