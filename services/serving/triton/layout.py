"""Writes what Triton reads: the backend directory and the vLLM-shaped model repository; it talks to no server.

Layout: https://github.com/triton-inference-server/vllm_backend (README, docs/llama_multi_lora_tutorial.md):
<model>/config.pbtxt, <model>/1/model.json (vLLM's AsyncEngineArgs), <model>/1/multi_lora.json.
"""

import importlib.util
import json
import os
import re
import shutil
import sys
import tempfile
from collections.abc import Mapping
from dataclasses import asdict, dataclass
from pathlib import Path

NAME = re.compile(r"[A-Za-z0-9][A-Za-z0-9._@-]{0,127}")
CONFIG = 'backend: "vllm"\ninstance_group [{ count: 1, kind: KIND_MODEL }]\n'


class NameRefused(ValueError):
    """A model name that could leave the repository or that Triton would not find."""


@dataclass(frozen=True, slots=True)
class EngineArgs:
    """The part of vLLM's AsyncEngineArgs that both back ends understand; None is left to the engine."""

    model: Path
    dtype: str = "auto"
    enable_lora: bool = True
    max_lora_rank: int = 64
    max_loras: int | None = None
    max_cpu_loras: int | None = None
    max_model_len: int | None = None
    max_num_seqs: int = 8


def install_backends(target: Path) -> None:
    """Fills `target` with Triton's Python backend (from the pytriton wheel) and ours; changed files only.

    Copies, not links: Triton refuses links. Raises FileNotFoundError when nvidia-pytriton is not installed.
    """
    wheel = wheel_root()
    here = Path(__file__).parent / "backend" / "model.py"
    stub = wheel / "python_backend_stubs" / f"{sys.version_info.major}.{sys.version_info.minor}"
    python = wheel / "backends" / "python"
    copy(stub / "triton_python_backend_stub", target / "python" / "triton_python_backend_stub")
    for name in ("libtriton_python.so", "triton_python_backend_utils.py"):
        copy(python / name, target / "python" / name)
    copy(here, target / "vllm" / "model.py")


def wheel_root() -> Path:
    """Returns the tritonserver tree of the pytriton wheel, found without importing it. Raises FileNotFoundError."""
    spec = importlib.util.find_spec("pytriton")
    if spec is None or spec.origin is None:
        raise FileNotFoundError(
            "tritonserver comes with the package nvidia-pytriton, which is not installed: pip install nvidia-pytriton==0.7.0"
        )
    return Path(spec.origin).parent / "tritonserver"


def write_model(repository: Path, name: str, engine: EngineArgs) -> Path:
    """Writes the model's folder; returns it. An existing multi_lora.json stays. Raises NameRefused."""
    folder = model_folder(repository, name)
    args = {
        key: str(value) if isinstance(value, Path) else value
        for key, value in asdict(engine).items()
        if value is not None
    }
    if engine.enable_lora and not (folder / "1" / "multi_lora.json").exists():
        write_adapters(repository, name, {})
    replace(folder / "1" / "model.json", json.dumps(args, indent=1, sort_keys=True) + "\n")
    replace(folder / "config.pbtxt", CONFIG)
    return folder


def write_adapters(repository: Path, name: str, adapters: Mapping[str, Path]) -> None:
    """Replaces the list of adapters at once; a running model takes it up with the next request. Raises NameRefused."""
    listed = {adapter: str(path.resolve()) for adapter, path in sorted(adapters.items())}
    replace(model_folder(repository, name) / "1" / "multi_lora.json", json.dumps(listed, indent=1) + "\n")


def read_adapters(repository: Path, name: str) -> dict[str, Path]:
    """Returns the adapters listed now, none when there is no list. Raises NameRefused."""
    listing = model_folder(repository, name) / "1" / "multi_lora.json"
    return (
        {adapter: Path(path) for adapter, path in json.loads(listing.read_text("utf-8")).items()}
        if listing.exists()
        else {}
    )


def remove_model(repository: Path, name: str) -> None:
    """Removes the model's folder, which must be unloaded; a missing one is fine. Raises NameRefused."""
    shutil.rmtree(model_folder(repository, name), ignore_errors=True)


def model_folder(repository: Path, name: str) -> Path:
    """Returns where the model lies. Raises NameRefused."""
    if not NAME.fullmatch(name):
        raise NameRefused(f"a model cannot be named {name!r}: use letters, digits, and . _ @ - after the first")
    return repository / name


def replace(path: Path, content: str) -> None:
    """Writes a file aside and renames it, so that a reader sees the old one or the new one.

    One that says so already stays untouched: Triton would load its model again for the time it carries.
    """
    if path.exists() and path.read_text("utf-8") == content:
        return
    path.parent.mkdir(parents=True, exist_ok=True)
    with tempfile.NamedTemporaryFile("w", encoding="utf-8", dir=path.parent, prefix=".", delete=False) as aside:
        aside.write(content)
        aside.flush()
        os.fsync(aside.fileno())
    Path(aside.name).chmod(0o644)
    Path(aside.name).replace(path)


def copy(source: Path, target: Path) -> None:
    """Copies a file with its mode unless the target is the same already."""
    content = source.read_bytes()
    if target.is_file() and target.read_bytes() == content:
        return
    target.parent.mkdir(parents=True, exist_ok=True)
    aside = target.with_name(f".{target.name}.{os.getpid()}")
    shutil.copy2(source, aside)
    aside.replace(target)
