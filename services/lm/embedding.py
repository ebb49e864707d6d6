"""A sentence embedder on onnxruntime: tokens in, vectors of length one out. Knows no Triton and no text."""

from collections.abc import Callable
from pathlib import Path
from typing import Any

import numpy as np
from numpy.typing import NDArray

Embed = Callable[[NDArray[np.int64], NDArray[np.int64]], NDArray[np.float32]]


def open_session(model: Path, threads: int) -> Embed:
    """The function (input_ids, attention_mask), each int64 [texts, tokens], -> float32 [texts, dimensions].

    Its vectors are the mean over the tokens of a text, normalised, as sentence-transformers' modules Pooling and Normalize
    have it (https://sbert.net/docs/package_reference/sentence_transformer/models.html).

    Raises:
        Exception: onnxruntime's own, where the file is none of its models.
    """
    import onnxruntime

    options: Any = onnxruntime.SessionOptions()
    options.intra_op_num_threads = threads
    options.enable_cpu_mem_arena = False  # it keeps the memory of the longest batch for ever, and is no faster here
    session: Any = onnxruntime.InferenceSession(str(model), options, providers=["CPUExecutionProvider"])
    has_types = "token_type_ids" in {given.name for given in session.get_inputs()}

    def embed(ids: NDArray[np.int64], mask: NDArray[np.int64]) -> NDArray[np.float32]:
        types = {"token_type_ids": np.zeros_like(ids)} if has_types else {}
        states: NDArray[np.float32] = session.run(None, {"input_ids": ids, "attention_mask": mask, **types})[0]
        return normalised_means(states, mask)

    return embed


def normalised_means(states: NDArray[np.float32], mask: NDArray[np.int64]) -> NDArray[np.float32]:
    """The mean of each text's states [texts, tokens, dimensions] where the mask is 1, of length one."""
    weights = mask[..., None].astype(np.float32)
    sums: NDArray[np.float32] = (states * weights).sum(
        axis=1
    )  # its length is divided away, so it needs no division by a count
    lengths: NDArray[np.float32] = np.linalg.norm(sums, axis=1, keepdims=True)
    return (sums / np.maximum(lengths, 1e-12)).astype(np.float32)
