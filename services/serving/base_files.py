"""Reads what the gateway needs of a model's directory: chat template, length, fingerprint. Loads no weights."""

import hashlib
import json
from pathlib import Path
from typing import Any

from contracts.types import Files
from services.serving.domain.template import ChatTemplate, TemplateRefused, compile_template

DEFAULT_LENGTH = 2048
"""Tokens, where config.json states none."""


def read_template(*directories: Path) -> ChatTemplate | None:
    """The chat template of the first directory that has one: a version's own, then its base's. None where none has."""
    for directory in directories:
        try:
            own = directory / "chat_template.jinja"
            template = own.read_text("utf-8") if own.is_file() else None
            return compile_template(_json(directory / "tokenizer_config.json"), template)
        except TemplateRefused:
            continue
    return None


def read_length(base: Path, limit: int) -> int:
    """Tokens that the model holds: `max_position_embeddings` of config.json, at most `limit` unless that is 0."""
    own = _json(base / "config.json").get("max_position_embeddings")
    length = own if isinstance(own, int) and own > 0 else DEFAULT_LENGTH
    return min(length, limit) if limit else length


def read_rank(adapter: Path) -> int:
    """The adapter's rank, rounded up to the powers of two that vLLM takes; 8 at least."""
    rank = _json(adapter / "adapter_config.json").get("r")
    return max(8, 1 << (rank - 1).bit_length()) if isinstance(rank, int) and rank > 0 else 8


def fingerprint(files: Files) -> str:
    """A digest of all files by path and content, shortened: two versions with one fingerprint are the same bytes."""
    lines = "".join(f"{path} {ref.sha256}\n" for path, ref in sorted(files.items()))
    return "fp_" + hashlib.sha256(lines.encode()).hexdigest()[:16]


def _json(path: Path) -> dict[str, Any]:
    value: Any = json.loads(path.read_text("utf-8")) if path.is_file() else {}
    return value if isinstance(value, dict) else {}
