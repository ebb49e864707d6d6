"""Facts of a model's directory and its files: length, rank, fingerprint."""

import hashlib
from collections.abc import Callable
from pathlib import Path

from contracts.types import ArtifactRef, BaseRef, Files
from services.lm.bases import model_files
from services.lm.control_tokens import read_json
from services.lm.files import sha256_tree

DEFAULT_LENGTH = 2048
"""Tokens, where config.json states none."""


def base_ref(name: str, directory: Path, store: Callable[[Path], ArtifactRef]) -> BaseRef:
    """The base `name` with the files of its directory, each kept by `store`, and the digest over them."""
    files: Files = {file: store(path) for file, path in model_files(directory).items()}
    return BaseRef(name=name, digest=sha256_tree({file: ref.sha256 for file, ref in files.items()}), files=files)


def read_length(base: Path, limit: int) -> int:
    """Tokens that the model holds: `max_position_embeddings` of config.json, at most `limit` unless that is 0."""
    own = read_json(base / "config.json").get("max_position_embeddings")
    length = own if isinstance(own, int) and own > 0 else DEFAULT_LENGTH
    return min(length, limit) if limit else length


def read_rank(adapter: Path) -> int:
    """The adapter's rank, rounded up to the powers of two that vLLM takes; 8 at least."""
    rank = read_json(adapter / "adapter_config.json").get("r")
    return max(8, 1 << (rank - 1).bit_length()) if isinstance(rank, int) and rank > 0 else 8


def fingerprint(files: Files) -> str:
    """A digest of all files by path and content, shortened: two versions with one fingerprint are the same bytes."""
    lines = "".join(f"{path} {ref.sha256}\n" for path, ref in sorted(files.items()))
    return "fp_" + hashlib.sha256(lines.encode()).hexdigest()[:16]
