"""Counting tokens with the base's own tokenizer where its file is at hand. Imported by the freezing process alone."""

import os
from pathlib import Path

from services.lm.bases import find_local
from services.prep.domain.frame import CountTokens
from services.prep.profiling.figures import words

FALLBACK = "white-space words"


def counter(base: str, cache: Path) -> tuple[CountTokens, str]:
    """A function that counts tokens, and what it counts: the base's tokens, or words without its tokenizer.

    The base is looked for as services/lm/bases.py has it, without a hub.
    """
    folder = find_local(base, cache)
    path = folder / "tokenizer.json" if folder else None
    if folder is None or path is None or not path.is_file():
        return words, FALLBACK
    return _of_file(path), f"tokens of {folder.name}"


def _of_file(path: Path) -> CountTokens:
    os.environ.setdefault("RAYON_NUM_THREADS", "2")
    from tokenizers import Tokenizer

    tokenizer = Tokenizer.from_file(str(path))

    def count(texts: list[str]) -> list[int]:
        return [len(encoded) for encoded in tokenizer.encode_batch_fast(texts, add_special_tokens=False)]

    return count
