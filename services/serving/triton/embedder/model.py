"""The Python-based Triton backend `embedder`: Triton's tensors in, vectors out; it knows no text.

Tensors as an ONNX export of a sentence embedder has them, with the pooling inside: input_ids and attention_mask, int64
[texts, tokens], to sentence_embedding, float32 [texts, dimensions]. This file lies in the backend directory and runs in a stub
process of the server, which imports `services` from the environment whose python3 comes first on PATH.
"""

import json
import locale
import os
import threading
from pathlib import Path
from typing import TYPE_CHECKING, Any

import triton_python_backend_utils as pb_utils

if TYPE_CHECKING:
    from services.lm.embedding import Embed

locale.setlocale(locale.LC_ALL, "C.UTF-8")  # a stub starts with ASCII, and imports with UTF-8 sources fail


class TritonPythonModel:
    """What Triton's Python stub looks for; Triton calls each method from one thread."""

    embed: "Embed"

    def initialize(self, args: dict[str, str]) -> None:
        """Opens the model that <version>/model.json names, in half a second: no other load waits for it much longer."""
        from services.lm.embedding import open_session
        from services.serving.triton.backend.orphans import follow_server

        threading.Thread(target=follow_server, args=(os.getppid(),), name="watch", daemon=True).start()
        given = json.loads((Path(pb_utils.get_model_dir()) / "model.json").read_text(encoding="utf-8"))
        self.embed = open_session(Path(given["model"]), int(given["threads"]))

    def execute(self, requests: list[Any]) -> list[Any]:
        """Embeds the texts of each request."""
        return [self._answer(request) for request in requests]

    def _answer(self, request: Any) -> Any:
        try:
            ids, mask = (pb_utils.get_input_tensor_by_name(request, name) for name in ("input_ids", "attention_mask"))
            if ids is None or mask is None:
                raise ValueError("input_ids and attention_mask are needed")
            vectors = self.embed(ids.as_numpy(), mask.as_numpy())
        except Exception as error:  # onnxruntime's own and lack of memory alike fail this request alone
            failure = pb_utils.TritonError(f"{type(error).__name__}: {error}", pb_utils.TritonError.INTERNAL)
            return pb_utils.InferenceResponse([], failure)
        return pb_utils.InferenceResponse([pb_utils.Tensor("sentence_embedding", vectors)])
