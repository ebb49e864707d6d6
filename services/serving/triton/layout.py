"""Writes what Triton reads: the backend directory and the vLLM-shaped model repository; it talks to no server.

Layout: https://github.com/triton-inference-server/vllm_backend (README, docs/llama_multi_lora_tutorial.md):
<generation>/config.pbtxt, <generation>/1/model.json (vLLM's AsyncEngineArgs), <generation>/1/multi_lora.json.

Triton polls the repository. A load of a model is a new folder, <model>.<random>, that appears whole and never changes, so
what Triton says of that name is the fate of that load. The adapters that come later stand in a list beside the repository.
"""

import importlib.util
import json
import os
import re
import secrets
import shutil
import sys
import tempfile
from collections.abc import Mapping
from contextlib import suppress
from dataclasses import asdict, dataclass
from pathlib import Path

NAME = re.compile(r"[A-Za-z0-9][A-Za-z0-9._@-]{0,127}")
GENERATION = re.compile(r"\.[0-9a-f]{8}")
REMOVED = ".removed"
EMBEDDER_CONFIG = """backend: "embedder"
input [
  { name: "input_ids" data_type: TYPE_INT64 dims: [-1, -1] },
  { name: "attention_mask" data_type: TYPE_INT64 dims: [-1, -1] }
]
output [{ name: "sentence_embedding" data_type: TYPE_FP32 dims: [-1, -1] }]
instance_group [{ count: 1, kind: KIND_CPU }]
"""
CONFIG = """backend: "vllm"
instance_group [{{ count: 1, kind: KIND_MODEL }}]
parameters [{{ key: "adapters" value: {{ string_value: {listing} }} }}]
"""


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
    here = Path(__file__).parent
    stub = wheel / "python_backend_stubs" / f"{sys.version_info.major}.{sys.version_info.minor}"
    python = wheel / "backends" / "python"
    copy(stub / "triton_python_backend_stub", target / "python" / "triton_python_backend_stub")
    for name in ("libtriton_python.so", "triton_python_backend_utils.py"):
        copy(python / name, target / "python" / name)
    copy(here / "backend" / "model.py", target / "vllm" / "model.py")
    copy(here / "embedder" / "model.py", target / "embedder" / "model.py")


def wheel_root() -> Path:
    """Returns the tritonserver tree of the pytriton wheel, found without importing it. Raises FileNotFoundError."""
    spec = importlib.util.find_spec("pytriton")
    if spec is None or spec.origin is None:
        raise FileNotFoundError(
            "tritonserver comes with the package nvidia-pytriton, which is not installed: pip install nvidia-pytriton==0.7.0"
        )
    return Path(spec.origin).parent / "tritonserver"


def add_generation(repository: Path, model: str, engine: EngineArgs, adapters: Mapping[str, Path]) -> str:
    """Lets Triton load a model: writes a folder aside and renames it into the repository. Returns its name.

    Raises:
        NameRefused, OSError: it cannot be written.
    """
    listing = write_adapters(repository, model, adapters)
    files = {
        "1/model.json": engine_arguments(engine),
        "1/multi_lora.json": listing.read_text("utf-8"),  # what vLLM reads, once, at its load
        "config.pbtxt": CONFIG.format(listing=json.dumps(str(listing.resolve()))),
    }
    return _appear(repository, model, files)


def add_embedder(repository: Path, model: str, arguments: str) -> str:
    """Lets Triton load an embedder with `arguments`, its model.json. Returns the name of its folder. Raises OSError."""
    return _appear(repository, model, {"1/model.json": arguments, "config.pbtxt": EMBEDDER_CONFIG})


def _appear(repository: Path, model: str, files: Mapping[str, str]) -> str:
    name = f"{model}.{secrets.token_hex(4)}"
    make_private(repository)
    folder = make_private(aside(repository)) / model
    shutil.rmtree(folder, ignore_errors=True)  # of a gateway that was killed here
    for path, content in files.items():
        replace(folder / path, content)
    folder.rename(repository / name)
    return name


def engine_arguments(engine: EngineArgs) -> str:
    """model.json."""
    given = {key: str(value) if isinstance(value, Path) else value for key, value in asdict(engine).items()}
    return json.dumps({k: v for k, v in given.items() if v is not None}, indent=1, sort_keys=True) + "\n"


def generations(repository: Path, model: str) -> dict[str, str]:
    """The folders of a model that Triton has loaded, loads or failed to load, each with its model.json."""
    found: dict[str, str] = {}
    for folder in repository.glob(f"{model}.*"):
        if GENERATION.fullmatch(folder.name.removeprefix(model)):
            with suppress(FileNotFoundError):  # Triton starts anew meanwhile
                found[folder.name] = (folder / "1" / "model.json").read_text("utf-8")
    return found


def remove_generation(repository: Path, name: str) -> None:
    """Lets Triton unload one, which answers its running requests first; a missing one is fine."""
    gone = make_private(aside(repository)) / f"{name}{REMOVED}"
    with suppress(FileNotFoundError):
        (repository / name).rename(gone)  # at once: Triton shall not see half of it
    shutil.rmtree(gone, ignore_errors=True)


def remove_generations(repository: Path, model: str, kept: str | None = None) -> None:
    """Lets Triton unload all of a model but the generation `kept`."""
    for name in generations(repository, model).keys() - {kept}:
        remove_generation(repository, name)


def remove_model(repository: Path, model: str) -> None:
    """Lets Triton unload a model; its list of adapters goes too. Raises NameRefused."""
    listing = adapter_list(repository, model)
    remove_generations(repository, model)
    listing.unlink(missing_ok=True)


def write_adapters(repository: Path, model: str, adapters: Mapping[str, Path]) -> Path:
    """Replaces the list of a model's adapters at once; taken up with the next request. Returns it. Raises NameRefused."""
    listed = {adapter: str(path.resolve()) for adapter, path in sorted(adapters.items())}
    listing = adapter_list(repository, model)
    replace(listing, json.dumps(listed, indent=1) + "\n")
    return listing


def read_adapters(repository: Path, model: str) -> dict[str, Path]:
    """Returns the adapters listed now, none when there is no list. Raises NameRefused."""
    listing = adapter_list(repository, model)
    listed = json.loads(listing.read_text("utf-8")) if listing.exists() else {}
    return {adapter: Path(path) for adapter, path in listed.items()}


def adapter_list(repository: Path, model: str) -> Path:
    """The list of a model's adapters: beside the repository, for a change inside makes Triton load again. Raises NameRefused."""
    if not NAME.fullmatch(model):
        raise NameRefused(f"a model cannot be named {model!r}: use letters, digits, and . _ @ - after the first")
    return repository.parent / "adapter-lists" / f"{model}.json"


def aside(repository: Path) -> Path:
    """Where folders are written before Triton may see them, on the repository's file system."""
    return repository.parent / "aside"


def clear(repository: Path) -> None:
    """Takes every model out of the repository. What a gateway writes aside meanwhile stays, and comes in whole."""
    for folder in make_private(repository).iterdir():
        remove_generation(repository, folder.name)
    for folder in aside(repository).glob(f"*{REMOVED}"):
        shutil.rmtree(folder, ignore_errors=True)


def make_private(folder: Path) -> Path:
    """Makes a folder that its owner alone may read or write: who writes into the repository loads models."""
    folder.mkdir(parents=True, exist_ok=True, mode=0o700)
    folder.chmod(0o700)
    return folder


def replace(path: Path, content: str) -> None:
    """Writes a file aside and renames it, so that a reader sees the old one or the new one."""
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
