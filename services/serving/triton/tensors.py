"""The vLLM backend's tensors as a client writes and reads them.

Source: https://github.com/triton-inference-server/vllm_backend (README, docs/additional_outputs.md).
"""

import json
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from typing import Any

import numpy as np
from tritonclient.grpc import InferInput, InferResult

from services.lm.template import Rendered
from services.serving.triton.status import STATUS

WANTED = ("return_finish_reason", "return_num_input_tokens", "return_num_output_tokens")

MARKED = "control_tokens_marked"
IDS = "prompt_token_ids"
SPECIAL = "add_special_tokens"


@dataclass(frozen=True, slots=True)
class Chunk:
    """One piece of an answer. Tokens are counts so far; finish_reason (stop, length) comes with the last piece."""

    text: str
    finish_reason: str | None
    prompt_tokens: int
    completion_tokens: int
    logprobs: tuple[Mapping[str, Any], ...] = ()
    """Of its tokens, where they were asked for: {id: {"logprob", "rank", "decoded_token"}}, the chosen one first."""
    prompt_logprobs: tuple[Mapping[str, Any], ...] = ()
    """Of the prompt's, with the first piece; its first token has none ("logprob" is null)."""


def request(
    model: str, prompt: Rendered, sampling: Mapping[str, Any], *, stream: bool, token_ids: Sequence[int] = ()
) -> dict[str, Any]:
    """Returns what tritonclient sends: the vLLM backend's inputs, and two words on how the prompt becomes tokens.

    The request parameter add_special_tokens (transformers' name) says that a template has written the BOS; a backend that does
    not know it does as for a plain text. The input control_tokens_marked says that the prompt holds marked control tokens
    (services/lm/control_tokens.py): a tensor, because a server whose backend does not know it must refuse the request;
    so is prompt_token_ids, a prompt that came as tokens, as JSON text.
    """
    flags = {"stream": stream, "exclude_input_in_output": True, **dict.fromkeys(WANTED, True)}
    inputs = [
        tensor("text_input", "BYTES", prompt.text.encode()),
        tensor("sampling_parameters", "BYTES", json.dumps(dict(sampling)).encode()),
    ]
    if sampling.get("logprobs") is not None:
        flags["return_logprobs"] = True
    if sampling.get("prompt_logprobs") is not None:
        flags["return_prompt_logprobs"] = True
    if prompt.marked:
        flags[MARKED] = True
    if token_ids:
        inputs.append(tensor(IDS, "BYTES", json.dumps(list(token_ids)).encode()))
    inputs += [tensor(name, "BOOL", value) for name, value in flags.items()]
    return {"model_name": model, "inputs": inputs, "parameters": None if prompt.plain else {SPECIAL: False}}


def status_request(model: str) -> dict[str, Any]:
    """Returns the request that an engine answers with its status (services/serving/triton/status.py)."""
    inputs = [tensor("text_input", "BYTES", b""), tensor("stream", "BOOL", True)]
    return {"model_name": model, "inputs": inputs, "parameters": {STATUS: True}}


def tensor(name: str, kind: str, value: bytes | bool) -> InferInput:
    """Returns a tensor of one value."""
    made = InferInput(name, [1], kind)
    made.set_data_from_numpy(np.array([value], dtype=np.bool_ if kind == "BOOL" else np.object_))
    return made


def read(result: InferResult, before: int) -> Chunk:
    """Returns the piece that a response holds; the server counts output tokens since the last one."""

    def first(name: str) -> Any:
        values: Any = result.as_numpy(name)
        return None if values is None or not values.size else values.reshape(-1)[0]

    reason = first("finish_reason")
    finish = None if reason in (None, b"None") else reason.decode()
    return Chunk(
        (first("text_output") or b"").decode(),
        finish,
        int(first("num_input_tokens") or 0),
        before + int(first("num_output_tokens") or 0),
        tuple(json.loads(first("logprobs") or b"null") or ()),
        tuple(json.loads(first("prompt_logprobs") or b"null") or ()),
    )
