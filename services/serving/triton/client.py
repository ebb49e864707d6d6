"""Asks Triton over gRPC, as a thin typed layer on tritonclient; it knows neither OpenAI's API nor deployments.

Errors:

    TritonFault
    ├── Unavailable      the server cannot be reached, or fell silent; ask again later
    ├── ModelNotReady    the model is not loaded, or the process that runs it died; load another generation
    ├── BadRequest       the request cannot be honoured; the message says why
    └── Failed           the model failed at this request
"""

import asyncio
import time
from collections.abc import AsyncGenerator, AsyncIterator, Awaitable, Callable, Mapping, Sequence
from contextlib import aclosing, asynccontextmanager, suppress
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import grpc
from tritonclient.grpc import InferResult
from tritonclient.grpc.aio import InferenceServerClient
from tritonclient.utils import InferenceServerException

from services.lm.template import Rendered
from services.serving.triton.status import EngineStatus, read_opening, read_status
from services.serving.triton.tensors import Chunk, read, request, status_request

REFUSED = ("invalid request: ", "LoRA ")  # begins what this backend, and vLLM's, says of a request that is at fault
SILENT_SECONDS = 30.0  # as in watchdog.py, which then ends the server
STATUS_SECONDS = 5.0  # for one question; a process that imports torch answers late
DEAD_STUB = "Stub process"  # begins what the Python backend says of a stub that was killed


class TritonFault(Exception):
    """Triton did not do what was asked."""


class Unavailable(TritonFault):
    """The server cannot be reached, or fell silent."""


class ModelNotReady(TritonFault):
    """The model is not loaded, or the process that runs it died."""


class BadRequest(TritonFault):
    """The request cannot be honoured."""


class Failed(TritonFault):
    """The model failed at this request."""


CODES: dict[str, type[TritonFault]] = {
    "UNAVAILABLE": Unavailable,
    "DEADLINE_EXCEEDED": Unavailable,
    "CANCELLED": Unavailable,
    "NOT_FOUND": ModelNotReady,
    "INVALID_ARGUMENT": BadRequest,
    "RESOURCE_EXHAUSTED": BadRequest,
}


@dataclass(frozen=True, slots=True)
class Triton:
    """A connection."""

    grpc: InferenceServerClient


@asynccontextmanager
async def connect(address: str) -> AsyncGenerator[Triton]:
    """Gives a connection to host:port; nothing is sent yet."""
    async with InferenceServerClient(address) as client:
        yield Triton(client)


async def generate(triton: Triton, model: str, prompt: str | Rendered, sampling: Mapping[str, Any], *, stream: bool = True,
                   idle_seconds: float = 120.0, token_ids: Sequence[int] = ()) -> AsyncGenerator[Chunk]:  # fmt: skip
    """Yields the answer as it comes, or whole if not `stream`. Closing the iterator cancels the request.

    A prompt that is a str is a plain text; one that came as `token_ids` is empty.
    `sampling` is vLLM's SamplingParams as JSON has it, with lora_name. Raises TritonFault; Unavailable also when
    nothing comes for `idle_seconds`, since a model's process that is killed leaves its streams silent.
    """
    # Never with the header triton_grpc_error: a cancelled stream with it crashes tritonserver 2.51.
    text = Rendered(prompt, plain=True) if isinstance(prompt, str) else prompt
    responses: Any = triton.grpc.stream_infer(once(request(model, text, sampling, stream=stream, token_ids=token_ids)))
    tokens, over = 0, False
    try:
        while (result := await following(responses, model, idle_seconds)) is not None:
            piece = read(result, tokens)
            tokens = piece.completion_tokens
            yield piece
        over = True
    finally:
        if not over:
            responses.cancel()


async def following(responses: Any, model: str, seconds: float) -> InferResult | None:
    """Returns the next response of a stream, None after the last. Raises TritonFault."""
    with faults():
        try:
            async with asyncio.timeout(seconds):
                result, error = await anext(responses)
        except StopAsyncIteration:
            return None
        except TimeoutError:
            raise Unavailable(f"{model} sent nothing for {seconds:g} s") from None
        if error is not None:
            with suppress(
                TimeoutError, StopAsyncIteration
            ):  # to its end: cancelled after its last response it holds its model
                async with asyncio.timeout(1.0):
                    await anext(responses)
            raise error
        return result


async def loaded(triton: Triton, generation: str, folder: Path, *, seconds: float = 300.0) -> None:
    """Returns when Triton has loaded the generation whose folder was put into its repository.

    Raises:
        Unavailable: the server is silent for `SILENT_SECONDS`, or needs more than `seconds`, or the repository was
            emptied: it starts anew.
        TritonFault: it cannot load it.
    """
    deadline, heard = time.monotonic() + seconds, time.monotonic()
    while True:
        try:
            held = (await states(triton)).get(generation, ("", ""))
            if held[0] == "READY" and await opened(triton, generation, STATUS_SECONDS):
                return
            heard = time.monotonic()
        except Unavailable:  # a load takes all cores, too: what is under way is not thrown away for one late answer
            if time.monotonic() - heard > SILENT_SECONDS:
                raise
            held = ("", "")
        if not await asyncio.to_thread(folder.exists):
            raise Unavailable(f"{generation} was taken out of the repository")
        if held[0] == "UNAVAILABLE":
            raise fault("", f"{generation} cannot be loaded: {held[1]}")
        if time.monotonic() > deadline:
            raise Unavailable(f"{generation} was not loaded in {seconds:g} s")
        await asyncio.sleep(0.1)


async def opened(triton: Triton, model: str, seconds: float) -> bool:
    """Whether the backend of a model that Triton calls ready has loaded it; one that does not tell, as vLLM's, has.

    Raises TritonFault, saying why where it cannot be loaded; Unavailable also where no answer comes within the time.
    """
    said = await _status_text(triton, model, seconds)
    opening = None if said is None else read_opening(said)
    if opening is not None and opening.failure is not None:
        raise Failed(f"{model} cannot be loaded: {opening.failure}")
    return opening is None


async def unloaded(triton: Triton, generation: str, *, seconds: float = 5.0) -> bool:
    """Whether Triton has let go of a generation that was taken out of its repository, within the time.

    Requests that run keep it, and one whose process was killed never goes. Raises TritonFault.
    """
    deadline = time.monotonic() + seconds
    while (held := (await states(triton)).get(generation, ("", ""))[0]) not in ("", "UNAVAILABLE"):
        if time.monotonic() > deadline:
            break
        await asyncio.sleep(0.05)
    return held in ("", "UNAVAILABLE")


async def states(triton: Triton) -> dict[str, tuple[str, str]]:
    """Returns the state (READY, LOADING, UNLOADING, UNAVAILABLE) and its reason of each model. Raises TritonFault."""
    index: Any = await call(triton.grpc.get_model_repository_index, client_timeout=10)
    return {model.name: (model.state, model.reason) for model in index.models}


async def ready(triton: Triton, model: str) -> bool:
    """Says whether Triton believes that the model answers; only probe() finds a dead process. Raises TritonFault."""
    return bool(await call(triton.grpc.is_model_ready, model, client_timeout=5))


async def live(triton: Triton) -> bool:
    """Says whether the server answers."""
    try:
        return bool(await call(triton.grpc.is_server_live, client_timeout=2))
    except TritonFault:
        return False


async def probe(triton: Triton, model: str, lora: str | None = None, *, seconds: float = 30.0) -> None:
    """Lets the model (with an adapter) make one token. Raises TritonFault when it cannot within the time."""
    sampling: dict[str, Any] = {"max_tokens": 1, "temperature": 0, **({"lora_name": lora} if lora else {})}
    try:
        async with asyncio.timeout(seconds), aclosing(generate(triton, model, "a", sampling, stream=False)) as pieces:
            if [piece async for piece in pieces]:
                return
    except TimeoutError:
        raise Unavailable(f"{model} did not answer a probe in {seconds:g} s") from None
    raise Failed(f"{model} answered a probe with nothing")


async def status(triton: Triton, model: str, seconds: float) -> EngineStatus | None:
    """How the model's engine fares, told without waiting behind its users; None from a backend that does not tell.

    Raises TritonFault, Unavailable also where no answer comes within the time.
    """
    said = await _status_text(triton, model, seconds)
    return None if said is None else read_status(said)


async def _status_text(triton: Triton, model: str, seconds: float) -> str | None:
    responses: Any = triton.grpc.stream_infer(once(status_request(model)))
    said, over = None, False
    try:
        while (result := await following(responses, model, seconds)) is not None:
            said = read(result, 0).text
        over = True
    except (BadRequest, Failed):
        return None
    finally:
        if not over:
            responses.cancel()
    return said


async def once(item: dict[str, Any]) -> AsyncIterator[dict[str, Any]]:
    """Yields the only request of a stream."""
    yield item


async def call(method: Callable[..., Awaitable[Any]], *arguments: Any, **options: Any) -> Any:
    """Calls and translates errors."""
    with faults():
        return await method(*arguments, **options)


class faults:  # noqa: N801  used as a context manager, like contextlib.suppress
    """Turns tritonclient's and gRPC's errors into TritonFault."""

    def __enter__(self) -> None:
        return None

    def __exit__(self, kind: object, error: BaseException | None, trace: object) -> None:
        if isinstance(error, grpc.aio.AioRpcError):
            raise fault(error.code().name, error.details() or "") from error
        if isinstance(error, InferenceServerException):
            raise fault((error.status() or "").removeprefix("StatusCode."), error.message() or "") from error


def fault(code: str, message: str) -> TritonFault:
    """Returns the error for a gRPC status and its text."""
    if (
        DEAD_STUB in message
        or "is not ready" in message
        or "is not found" in message
        or "no available versions" in message
    ):
        return ModelNotReady(message)
    if message.startswith(REFUSED):
        return BadRequest(message.removeprefix(REFUSED[0]))
    return CODES.get(code, Failed)(message)
