"""Asks Triton for embeddings; errors are those of client.py. Knows neither OpenAI's API nor text."""

from collections.abc import Sequence
from typing import Any

import numpy as np
from tritonclient.grpc import InferInput

from services.serving.triton.client import Triton, call


async def embed(triton: Triton, model: str, texts: Sequence[Sequence[int]], seconds: float) -> list[bytes]:
    """The vector of each text, given as its tokens: float32 values, little-endian. Raises TritonFault."""
    widest = max(map(len, texts))
    ids, mask = np.zeros((2, len(texts), widest), np.int64)
    for row, tokens in enumerate(texts):
        ids[row, : len(tokens)], mask[row, : len(tokens)] = tokens, 1
    inputs = [_tensor("input_ids", ids), _tensor("attention_mask", mask)]
    result: Any = await call(triton.grpc.infer, model, inputs, client_timeout=seconds)
    return [vector.astype("<f4").tobytes() for vector in result.as_numpy("sentence_embedding")]


def _tensor(name: str, values: Any) -> InferInput:
    made = InferInput(name, list(values.shape), "INT64")
    made.set_data_from_numpy(values)
    return made
