"""Every command that the documents show is run, in order, against the stack that the loop left behind."""

import os
import re
import shlex
import signal
import subprocess
import sys
from pathlib import Path

import pytest

from tests.e2e.conftest import ROOT, Stack

PAGES = ("README.md", "docs/tutorial.md", "docs/operations.md")
BLOCK = re.compile(r"^```bash\n(.*?)^```", re.MULTILINE | re.DOTALL)
LONG = ("scripts/demo", "scripts/test", "scripts/setup", ".ci/run", "noria up", "noria down")
"""Run by the tests' own frame (or are it): only checked to exist."""


def commands(page: str) -> list[str]:
    """The commands of a page's bash blocks, a command a string, comments left out."""
    text = (ROOT / page).read_text()
    joined = "".join(BLOCK.findall(text)).replace("\\\n", " ")
    found: list[str] = []
    open_quote = ""
    for line in joined.splitlines():
        open_quote = f"{open_quote}\n{line}" if open_quote else line
        if open_quote.count("'") % 2 == 0:
            found.append(re.sub(r"\s+#.*$", "", open_quote).strip())
            open_quote = ""
    return [command for command in found if command]


def environment(stack: Stack) -> dict[str, str]:
    path = f"{Path(sys.executable).parent}{os.pathsep}{os.environ['PATH']}"
    return {**stack.environment, "PATH": path}


def here(stack: Stack, command: str) -> str:
    """The command with this stack's ports in place of the default ones."""
    names = {"8080": "serving", "8081": "ingestion", "8082": "prep", "8083": "trainer", "8084": "evaluator"}
    names |= {"8085": "registry", "8086": "feedback", "9092": "kafka", "8000": "triton_http"}
    return re.sub(r"127\.0\.0\.1:(\d{4})", lambda m: f"127.0.0.1:{stack.ports[names[m[1]]]}", command)


def watched(stack: Stack, command: str) -> int:
    """Starts a command that runs until Ctrl-C, waits for its first line, interrupts it."""
    process = subprocess.Popen(
        shlex.split(command), cwd=ROOT, env=environment(stack), stdout=subprocess.PIPE, text=True, bufsize=1
    )
    try:
        assert process.stdout is not None
        assert process.stdout.readline()
        process.send_signal(signal.SIGINT)
        return process.wait(20)
    finally:
        process.kill()
        process.wait()


@pytest.mark.parametrize("page", PAGES)
def test_commands_of_the_page_work(page: str, loop: Stack, tmp_path: Path) -> None:
    ran = 0
    for command in commands(page):
        if command.startswith(LONG):
            program = command.split()[0]
            assert program == "noria" or os.access(ROOT / program, os.X_OK), command
            continue
        if command.startswith("noria watch"):
            assert watched(loop, f"{command} --from-beginning") in (0, 130, -signal.SIGINT), command
            continue
        script = here(loop, command).replace("records.jsonl", str(tmp_path / "records.jsonl"))
        done = subprocess.run(
            ["bash", "-c", script],
            cwd=ROOT,
            env=environment(loop),
            capture_output=True,
            text=True,
            timeout=120,
            check=False,
        )
        assert done.returncode == 0, f"{page}: {command}\n{done.stdout}\n{done.stderr}"
        ran += 1
    assert ran > 0
