"""Digests of what a run was made with: code, packages, base, platform. Takes no clock and no path into them."""

import hashlib
import platform
import sys
from functools import cache
from importlib.metadata import distributions
from pathlib import Path

import torch

from services.lm.bases import model_files
from services.lm.files import sha256_file, sha256_tree

_ROOT = Path(__file__).resolve().parents[3]


@cache
def code_digest() -> str:
    """Digest of the sources of services/trainer, services/lm and contracts."""
    files = [
        file for folder in ("services/trainer", "services/lm", "contracts") for file in (_ROOT / folder).rglob("*.py")
    ]
    return sha256_tree({file.relative_to(_ROOT).as_posix(): sha256_file(file) for file in files})


@cache
def environment_digest() -> str:
    """Digest of the sorted lines 'name==version' of all installed packages."""
    names = sorted({f"{d.metadata['Name'].lower()}=={d.version}" for d in distributions() if d.metadata["Name"]})
    return hashlib.sha256("\n".join(names).encode()).hexdigest()


def directory_digest(directory: Path) -> str:
    """Digest of a base's directory: of the names and digests of the files that make the model."""
    return sha256_tree({name: sha256_file(file) for name, file in model_files(directory).items()})


def platform_facts() -> dict[str, str]:
    """What besides the code decides the last bit of a float."""
    return {
        "machine": platform.machine(),
        "python": platform.python_version(),
        "system": sys.platform,
        "torch": str(torch.__version__),
        "cpu": torch.backends.cpu.get_cpu_capability(),
        "gpu": torch.cuda.get_device_name() if torch.cuda.is_available() else "",
    }
