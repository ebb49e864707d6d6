"""Vectors of a dataset's texts by the packaged embedder, within a bound of tokens. Imported by the freezing process alone."""

from collections.abc import Callable, Sequence
from pathlib import Path
from typing import Any

import numpy as np

from services.lm.embedding import Embed, open_session
from services.prep.profiling.topics import Vectors

NAME = "all-MiniLM-L6-v2"
"""As compose/local/assets.py puts it into the cache."""
CANDIDATES = 2_000
"""Texts that are cut into tokens to see how many may be computed."""
TOKENS_A_TEXT = 64
CHARACTERS = 1_000
BATCH_TOKENS = 512
THREADS = 2
EmbedTexts = Callable[[Sequence[str]], tuple[list[int], Vectors]]
"""Texts -> the places of those that were embedded, evenly chosen, and their vectors."""


def open_embedder(cache: Path, tokens: int) -> EmbedTexts | None:
    """The function that embeds at most so many tokens; None where the embedder's files are not here or `tokens` is 0."""
    folder = cache / "embedders" / NAME
    if not tokens or not (folder / "model.onnx").is_file():
        return None

    def embed(texts: Sequence[str]) -> tuple[list[int], Vectors]:
        from tokenizers import Tokenizer

        tokenizer: Any = Tokenizer.from_file(str(folder / "tokenizer.json"))
        tokenizer.no_padding()
        tokenizer.enable_truncation(TOKENS_A_TEXT)

        step = max(1, -(-len(texts) // CANDIDATES))
        ids: list[list[int]] = [each.ids for each in tokenizer.encode_batch([t[:CHARACTERS] for t in texts[::step]])]
        stride = within([len(each) for each in ids], tokens)
        chosen = ids[::stride]
        return [i * step * stride for i in range(len(chosen))], vectors(
            open_session(folder / "model.onnx", THREADS), chosen
        )

    return embed


def within(lengths: Sequence[int], most: int) -> int:
    """The least stride at which the lengths together are no more than `most`."""
    stride = max(1, min(len(lengths), sum(lengths) // max(1, most)))
    while stride < len(lengths) and sum(lengths[::stride]) > most:
        stride += 1
    return stride


def vectors(embed: Embed, ids: Sequence[Sequence[int]]) -> Vectors:
    """The vector of each text's tokens, computed in batches of like lengths."""
    order = sorted(range(len(ids)), key=lambda i: (len(ids[i]), i))
    found: list[tuple[int, Any]] = []
    while order:
        rows = max(1, BATCH_TOKENS // len(ids[order[0]]))
        batch, order = order[:rows], order[rows:]
        longest = max(len(ids[i]) for i in batch)
        padded = np.zeros((len(batch), longest), np.int64)
        mask = np.zeros_like(padded)
        for at, i in enumerate(batch):
            padded[at, : len(ids[i])] = ids[i]
            mask[at, : len(ids[i])] = 1
        found += zip(batch, embed(padded, mask), strict=True)
    return np.stack([vector for _, vector in sorted(found, key=lambda pair: pair[0])])
