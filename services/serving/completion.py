"""A request on its way through the model: let on, generated. Knows Triton's client and no HTTP."""

import asyncio
import time
from collections.abc import AsyncGenerator
from contextlib import aclosing
from dataclasses import dataclass, field, replace
from typing import Any

from services.lm.template import Rendered
from services.serving.domain.answers import Head, Usage
from services.serving.domain.asked import Asked
from services.serving.domain.errors import ApiFault, Cut, Invalid, Unavailable
from services.serving.domain.record import Progress
from services.serving.domain.routing import Target
from services.serving.domain.sampling import begun
from services.serving.runtime import Runtime
from services.serving.triton import client
from services.serving.triton.client import Chunk, Triton
from services.serving.turns import Ticket


@dataclass(slots=True)
class Completion:
    """A request that was understood and whose model is known."""

    head: Head
    asked: Asked
    text: Rendered
    sampling: dict[str, Any]
    id: str
    """Of its record: that of the answer for the first choice."""
    started: float
    """time.perf_counter() when the request came."""
    progress: Progress = field(default_factory=Progress)
    last_piece: float = 0.0
    restarts: int = 0
    """Of its Triton model when it was let on."""
    key: str = ""
    """The id of its API key, or the address where none is needed."""
    ticket: Ticket | None = None
    record: asyncio.Future[None] | None = None

    @property
    def headers(self) -> dict[str, str]:
        """Who answered: on every answer from here on."""
        return {"x-noria-request-id": self.id, "x-noria-model-version": self.head.target.answerer}


def broken_off(runtime: Runtime, completion: Completion) -> bool:
    """Whether its model was lost meanwhile. A long silence makes the deployer look: a killed process says nothing."""
    if completion.head.target.teacher is not None:
        return False
    model = completion.head.target.triton_model
    if completion.last_piece and time.perf_counter() - completion.last_piece > runtime.settings.suspect_seconds:
        runtime.suspect(model)
    return runtime.restarts[model] != completion.restarts


async def pieces(runtime: Runtime, triton: Triton, completion: Completion) -> AsyncGenerator[Chunk]:
    """The answer as it comes; `completion.progress` grows with it. Closing the iterator cancels the request in Triton.

    Raises:
        ApiFault: as the client should see what Triton said.
    """
    model = completion.head.target.triton_model
    await _turn(runtime, completion)
    # Always as a stream: what a whole answer lacks at a deadline is told from what is there, and tokens show life.
    generated = client.generate(
        triton,
        runtime.generations.get(model, model),
        completion.text,
        completion.sampling,
        idle_seconds=runtime.settings.answer_seconds,
        token_ids=completion.asked.token_ids,
    )
    try:
        async with aclosing(generated) as chunks:
            while (chunk := await _next(runtime, completion, chunks)) is not None:
                if completion.asked.max_tokens == 0:
                    chunk = _untold(chunk)
                if completion.progress.first_token is None:
                    _echo(completion, chunk)
                    chunk = replace(chunk, text=begun(completion.asked, completion.head.target) + chunk.text)
                note(runtime, completion, chunk)
                yield chunk
    except client.TritonFault as fault:
        raise _translated(runtime, completion.head.target, fault) from fault
    if completion.progress.finish_reason is None:
        runtime.suspect(model)
        raise Unavailable("The model's answer broke off; the request can be sent again.", "answer_broken_off")


async def _turn(runtime: Runtime, completion: Completion) -> None:
    """Waits until the completion is let on.

    Raises:
        Unavailable: its turn did not come in time, or its model was lost meanwhile.
    """
    model = completion.head.target.triton_model
    if completion.ticket is not None:
        await completion.ticket.wait(runtime.settings.waiting_seconds)
    if not runtime.answers(model):
        raise Unavailable("The model was lost while the request waited; it can be sent again.", "model_loading")
    completion.restarts, completion.last_piece = runtime.restarts[model], time.perf_counter()


async def _next(runtime: Runtime, completion: Completion, chunks: AsyncGenerator[Chunk]) -> Chunk | None:
    """The next piece, None after the last.

    Raises:
        Cut: the answer has had all the time that one may take.
        Unavailable: the model is silent for too long.
    """
    settings, first = runtime.settings, completion.progress.first_token is None
    silence = settings.first_token_seconds if first else settings.silence_seconds
    left = completion.started + settings.answer_seconds - time.perf_counter()
    try:
        async with asyncio.timeout(min(silence, left)):
            return await anext(chunks, None)
    except TimeoutError:
        if left <= silence:
            raise Cut(f"The answer took longer than {settings.answer_seconds:g} s.", "answer_too_long") from None
        runtime.suspect(completion.head.target.triton_model)
        kind = "first token" if first else "next token"
        raise Unavailable(f"The {kind} did not come in {silence:g} s.", "model_silent") from None


def _untold(chunk: Chunk) -> Chunk:
    """The piece of a completion that is its prompt's echo alone: the engine made a token, since it cannot make none."""
    reason = chunk.finish_reason and "length"
    return replace(chunk, text="", finish_reason=reason, completion_tokens=0, logprobs=())


def _echo(completion: Completion, chunk: Chunk) -> None:
    """What an answer that begins with its prompt says first."""
    if completion.asked.echo:
        tokens = "".join(str(next(iter(score.values()))["decoded_token"]) for score in chunk.prompt_logprobs)
        completion.progress.echo = completion.asked.prompt or tokens
        completion.progress.echoed = list(chunk.prompt_logprobs) if completion.asked.logprobs is not None else []


def note(runtime: Runtime, completion: Completion, chunk: Chunk) -> None:
    """Lets `completion.progress` grow by a piece, and counts it."""
    progress, now = completion.progress, time.perf_counter()
    progress.text += chunk.text
    progress.scores += chunk.logprobs
    progress.usage = Usage(chunk.prompt_tokens or progress.usage.prompt_tokens, chunk.completion_tokens)
    progress.finish_reason = chunk.finish_reason or progress.finish_reason
    if runtime.metrics and progress.first_token is not None:
        runtime.metrics.next_token.observe(now - completion.last_piece)
    elif progress.first_token is None:
        progress.first_token = now - completion.started
        if runtime.metrics:
            runtime.metrics.first_token.observe(progress.first_token)
    completion.last_piece = runtime.heard[completion.head.target.triton_model] = now
    if completion.ticket is not None:
        runtime.turns.saw(completion.ticket, chunk.completion_tokens, ended=chunk.finish_reason is not None)


def _translated(runtime: Runtime, target: Target, fault: client.TritonFault) -> ApiFault:
    """What Triton said as the client sees it. All but a bad request is a reason to look at the model at once."""
    message = str(fault)[:500]
    if isinstance(fault, client.BadRequest) and "LoRA" not in message and "adapter" not in message:
        if "max_model_len" not in message:
            return Invalid(message, "invalid_value", None)
        known = f"This model's maximum context length is {target.model_length} tokens"  # words that clients match on
        return Invalid(f"{known}: {message}", "context_length_exceeded", None)
    runtime.suspect(target.triton_model)
    if isinstance(fault, client.Unavailable | client.ModelNotReady):
        return Unavailable(f"Triton does not answer for this model: {message}", "triton_unavailable")
    return Unavailable(f"The model failed at this request: {message}", "model_failed")
