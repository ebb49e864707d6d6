"""The Python-based Triton backend `vllm`: Triton's tensors in, an engine's deltas out; it knows no model of torch.

Tensors, defaults and the repository layout are those of triton-inference-server/vllm_backend (README and
docs/additional_outputs.md there), so that one repository serves here and on real vLLM. Triton copies nothing: this
file lies in the backend directory and runs in a stub process of the server, which imports `services` from the
environment whose python3 comes first on PATH.
"""

import gc
import json
import locale
import os
import queue
import threading
import time
from collections.abc import Callable
from concurrent.futures import ThreadPoolExecutor
from pathlib import Path
from typing import TYPE_CHECKING, Any

import numpy as np
import triton_python_backend_utils as pb_utils

if TYPE_CHECKING:
    from services.serving.triton.backend.opening import Opening
    from services.serving.triton.backend.rows import Delta
    from services.serving.triton.backend.serve import Served

locale.setlocale(locale.LC_ALL, "C.UTF-8")  # a stub starts with ASCII, and imports with UTF-8 sources fail

REFUSED = "invalid request: "  # streams carry no error codes, so the client tells by this whose fault it was
POLL_SECONDS = 0.1  # how soon a cancelled request is seen that sends nothing yet
INPUTS = (
    ("text_input", "TYPE_STRING", False),
    ("stream", "TYPE_BOOL", True),
    ("sampling_parameters", "TYPE_STRING", True),
    ("exclude_input_in_output", "TYPE_BOOL", True),
    ("return_finish_reason", "TYPE_BOOL", True),
    ("return_cumulative_logprob", "TYPE_BOOL", True),
    ("return_logprobs", "TYPE_BOOL", True),
    ("return_num_input_tokens", "TYPE_BOOL", True),
    ("return_num_output_tokens", "TYPE_BOOL", True),
    ("control_tokens_marked", "TYPE_BOOL", True),  # ours, as is the next: services/serving/triton/tensors.py
    ("prompt_token_ids", "TYPE_STRING", True),
    ("return_prompt_logprobs", "TYPE_BOOL", True),
)
OUTPUTS = (
    ("text_output", "TYPE_STRING", [-1]),
    ("finish_reason", "TYPE_STRING", [-1]),
    ("cumulative_logprob", "TYPE_FP32", [-1]),
    ("logprobs", "TYPE_STRING", [-1]),
    ("prompt_logprobs", "TYPE_STRING", [-1]),
    ("num_input_tokens", "TYPE_UINT32", [1]),
    ("num_output_tokens", "TYPE_UINT32", [-1]),
)


class TritonPythonModel:
    """What Triton's Python stub looks for; Triton calls each method from one thread."""

    opening: "Opening"

    @staticmethod
    def auto_complete_config(auto_complete_model_config: Any) -> Any:
        """Adds the tensors that config.pbtxt leaves out; turns Triton's own batching off: the engine batches."""
        config = auto_complete_model_config.as_dict()
        names = {tensor["name"] for tensor in (*config["input"], *config["output"])}
        for name, kind, optional in INPUTS:
            if name not in names:
                auto_complete_model_config.add_input(
                    {"name": name, "data_type": kind, "dims": [1], "optional": optional}
                )
        for name, kind, dims in OUTPUTS:
            if name not in names:
                auto_complete_model_config.add_output({"name": name, "data_type": kind, "dims": dims})
        auto_complete_model_config.set_model_transaction_policy({"decoupled": True})
        auto_complete_model_config.set_max_batch_size(0)
        return auto_complete_model_config

    def initialize(self, args: dict[str, str]) -> None:
        """Begins to load the model that <version>/model.json names: Triton calls it ready now, its status says when it is."""
        from services.serving.triton.backend.opening import Opening
        from services.serving.triton.backend.orphans import follow_server

        threading.Thread(target=follow_server, args=(os.getppid(),), name="watch", daemon=True).start()
        self.sender = Sender()
        # One thread: requests keep their order, and a prompt of 100,000 tokens, which takes a second, delays no status.
        self.reader = ThreadPoolExecutor(1, "reader")
        listing = json.loads(args["model_config"]).get("parameters", {}).get("adapters", {}).get("string_value")
        directory, name, logger = Path(pb_utils.get_model_dir()), args["model_name"], pb_utils.Logger

        def opened() -> "Served":
            from services.serving.triton.backend.serve import (
                open_model,  # torch: not for the stub that completes the config
            )

            return open_model(directory, listing and Path(listing), log=logger.log_error)

        self.opening = Opening(
            opened,
            lambda said: logger.log_info(f"{name}: {said}"),
            lambda why: logger.log_error(f"{name} cannot be loaded: {why}"),
        )

    def execute(self, requests: list[Any]) -> None:
        """Answers a question for the status at once; hands all else to the thread that reads prompts."""
        for request in requests:
            response_sender = request.get_response_sender()
            if json.loads(request.parameters() or "{}").get("status") in (True, "true"):
                send(response_sender, self._status(), final=True)
                continue
            try:
                begin = self._begun(request, response_sender)
            except ValueError as error:
                refuse(response_sender, error)
            else:
                self.reader.submit(begin)

    def _status(self) -> Any:
        found = json.dumps(self.opening.status()).encode()
        return pb_utils.InferenceResponse([pb_utils.Tensor("text_output", np.array([found], dtype=np.object_))])

    def _begun(self, request: Any, response_sender: Any) -> Callable[[], None]:
        """What hands the request to the engine. What Triton may take back when execute returns is copied here."""
        prompt, parameters = text(request, "text_input") or "", request.parameters()
        sampling, ids = text(request, "sampling_parameters"), text(request, "prompt_token_ids")
        marked = flag(request, "control_tokens_marked", default=False)
        reply = Reply(request, response_sender, self.sender, prompt)

        def begin() -> None:
            try:
                served = self.opening.served()
                wanted = served.request(prompt, sampling, parameters, reply, marked=marked, ids=ids)
                reply.prompt_tokens = len(wanted.prompt)
                self.sender.open(reply)
                served.engine.submit(wanted)
            except Exception as error:  # nobody looks at what a thread raises
                refuse(response_sender, error)

        return begin

    def finalize(self) -> None:
        """Stops the engine; what still runs gets an error."""
        self.reader.shutdown(cancel_futures=True)
        self.opening.stop()
        self.sender.stop()
        del self.opening, self.sender, self.reader
        gc.collect()


class Reply:
    """The answer of one request on its way: the engine's deltas, gathered as the request wishes."""

    def __init__(self, request: Any, response_sender: Any, sender: "Sender", prompt: str) -> None:
        self.response_sender, self.sender = response_sender, sender
        self.stream = flag(request, "stream", default=False)
        exclude = flag(request, "exclude_input_in_output", default=self.stream)
        if self.stream and not exclude:
            raise ValueError("When streaming, `exclude_input_in_output` = False is not allowed.")
        self.wants = {name for name, _, _ in OUTPUTS if flag(request, f"return_{name}", default=False)}
        self.text, self.tokens, self.prompt_tokens = "" if exclude else prompt, 0, 0
        self.logprobs: tuple[dict[int, Any], ...] = ()
        self.read: tuple[dict[int, Any], ...] = ()
        self.cancelled = False

    def emit(self, delta: "Delta") -> None:
        """Called by the engine, which must not wait for Triton."""
        self.sender.deltas.put((self, delta))

    def response(self, delta: "Delta") -> Any | None:
        """Returns what Triton is to be sent for this delta, if anything."""
        if delta.error is not None:
            return failure(delta.error, pb_utils.TritonError.INTERNAL)
        if delta.finish_reason == "cancelled":
            return failure("Request was cancelled", pb_utils.TritonError.CANCELLED)
        self.text, self.tokens = self.text + delta.text, self.tokens + delta.tokens
        self.logprobs, self.read = self.logprobs + delta.logprobs, self.read + delta.prompt_logprobs
        if not self.stream and delta.finish_reason is None:
            return None
        values: dict[str, Any] = {
            "text_output": np.array([self.text.encode()], dtype=np.object_),
            "finish_reason": np.array([str(delta.finish_reason).encode()], dtype=np.object_),
            "num_input_tokens": np.array([self.prompt_tokens], dtype=np.uint32),
            "num_output_tokens": np.array([self.tokens], dtype=np.uint32),
            "cumulative_logprob": np.array([np.nan], dtype=np.float32),  # not summed here
            "prompt_logprobs": np.array([json.dumps(self.read or None).encode()], dtype=np.object_),
            "logprobs": np.array([json.dumps(self.logprobs or None).encode()], dtype=np.object_),
        }
        self.text, self.tokens, self.logprobs, self.read = "", 0, (), ()
        wanted = {"text_output"} | self.wants
        return pb_utils.InferenceResponse(
            [pb_utils.Tensor(name, value) for name, value in values.items() if name in wanted]
        )


class Sender:
    """Sends answers from a thread of its own and watches for cancellation, so that the engine waits for neither."""

    def __init__(self) -> None:
        self.deltas: queue.SimpleQueue[tuple[Reply, Delta | None] | tuple[()] | None] = queue.SimpleQueue()
        self.live: set[Reply] = set()
        self.thread = threading.Thread(target=self.run, name="sender", daemon=True)
        self.thread.start()

    def open(self, reply: Reply) -> None:
        """Begins to watch a reply for cancellation."""
        self.deltas.put((reply, None))

    def stop(self) -> None:
        """Sends what is queued and ends the thread."""
        self.deltas.put(None)
        self.thread.join()

    def run(self) -> None:
        """Sends until stop()."""
        polled = time.monotonic()
        while True:
            try:
                item = self.deltas.get(timeout=POLL_SECONDS if self.live else None)
            except queue.Empty:
                item = ()
            if item is None:
                return
            try:
                if item:
                    self.send(*item)
                if time.monotonic() - polled > POLL_SECONDS:
                    polled = time.monotonic()
                    self.poll()
            except Exception as error:  # one client's broken answer must not end everyone's
                pb_utils.Logger.log_error(f"sender: {type(error).__name__}: {error}")

    def send(self, reply: Reply, delta: "Delta | None") -> None:
        """Sends one delta; None opens the reply."""
        if delta is None:
            self.live.add(reply)
            return
        final = delta.finish_reason is not None or delta.error is not None
        if final:
            self.live.discard(reply)
        if (response := reply.response(delta)) is not None:
            send(reply.response_sender, response, final=final)
            if not final:
                reply.cancelled = reply.response_sender.is_cancelled()

    def poll(self) -> None:
        """Marks the replies that nobody waits for."""
        for reply in self.live:
            reply.cancelled = reply.cancelled or reply.response_sender.is_cancelled()


def send(response_sender: Any, response: Any, *, final: bool) -> None:
    """Sends one response, the last one or not."""
    response_sender.send(response, flags=pb_utils.TRITONSERVER_RESPONSE_COMPLETE_FINAL if final else 0)


def refuse(response_sender: Any, error: Exception) -> None:
    """Answers a request that cannot be begun: a bad one with its own error, the others with ours."""
    from services.serving.triton.backend.opening import NotOpen

    if isinstance(error, ValueError | LookupError):
        answer = failure(f"{REFUSED}{error}", pb_utils.TritonError.INVALID_ARG)
    elif isinstance(error, NotOpen):
        answer = failure(str(error), pb_utils.TritonError.UNAVAILABLE)
    else:
        answer = failure(f"the engine failed: {type(error).__name__}: {error}"[:500], pb_utils.TritonError.INTERNAL)
    send(response_sender, answer, final=True)


def failure(message: str, code: int) -> Any:
    """Returns an error response."""
    return pb_utils.InferenceResponse(output_tensors=[], error=pb_utils.TritonError(message, code))


def text(request: Any, name: str) -> str | None:
    """Returns a string input, None if it was not sent. Raises ValueError when it is not UTF-8."""
    tensor = pb_utils.get_input_tensor_by_name(request, name)
    if tensor is None:
        return None
    value = tensor.as_numpy().reshape(-1)[0]
    try:
        return value.decode() if isinstance(value, bytes) else str(value)
    except UnicodeDecodeError as error:
        raise ValueError(f"{name} is not UTF-8: {error}") from None


def flag(request: Any, name: str, *, default: bool) -> bool:
    """Returns a boolean input, or the default if it was not sent."""
    tensor = pb_utils.get_input_tensor_by_name(request, name)
    return default if tensor is None else bool(tensor.as_numpy().reshape(-1)[0])
