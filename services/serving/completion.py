"""A request on its way through the model: admitted, let on, generated. Knows Triton's client and no HTTP."""

import asyncio
import json
import time
import uuid
from collections.abc import AsyncGenerator
from contextlib import aclosing
from dataclasses import dataclass, field, replace
from typing import Any

from services.lm.template import Rendered
from services.serving.domain.answers import Head, Usage
from services.serving.domain.asked import Asked
from services.serving.domain.errors import ApiFault, Cut, Invalid, Unavailable
from services.serving.domain.fair_queue import Flow
from services.serving.domain.forms import FORMS
from services.serving.domain.record import Progress
from services.serving.domain.routing import Target, resolve
from services.serving.domain.sampling import begun, offered_tools, sampling_parameters
from services.serving.runtime import Runtime
from services.serving.triton import client
from services.serving.triton.client import Chunk, Triton
from services.serving.triton.grammars import GrammarRefused, grammar
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
        version = str(self.head.target.model.version)
        return {"x-noria-request-id": self.id, "x-noria-model-version": version}


async def begin(runtime: Runtime, asked: Asked, started: float, answer: str = "") -> Completion:
    """The completion for a request that came at `started` (time.perf_counter()), part of the `answer` with this id.

    Raises:
        ModelNotFound: nothing answers to the name.
        Invalid: the template or the model's length refuse it.
        Unavailable: too many requests wait for the template.
    """
    target = resolve(runtime.routes, asked.model)
    sampling = sampling_parameters(asked, target)
    text = await runtime.templates.prompt_text(asked, target)
    head = Head(
        answer or new_id(asked),
        asked.endpoint,
        int(time.time()),
        target,
        asked.include_usage,
        offered_tools(asked, target),
        asked.index,
        asked.logprobs,
        asked.shown,
    )
    id = f"{head.id}-{asked.index}" if asked.index else head.id
    return Completion(head, asked, text, sampling, id, started)


def new_id(asked: Asked) -> str:
    """An id for an answer."""
    return FORMS[asked.endpoint].prefix + uuid.uuid4().hex


async def check_structure(completion: Completion) -> None:
    """Whether the answer can be held to what it must look like, found out in a thread: that may take a tenth of a second.

    Raises:
        Invalid: it cannot, and why.
    """
    if (structured := completion.sampling.get("structured_outputs")) is None:
        return
    name = completion.asked.structured_by or "tools"
    try:
        await asyncio.to_thread(grammar, json.loads(structured))
    except GrammarRefused as error:
        raise Invalid(f"{name}: {error}"[:1000], "invalid_value", name) from error


def admit(runtime: Runtime, completion: Completion, key: str = "") -> Triton:
    """The connection to Triton, if the completion can be answered in time and recorded; `depart` gives back its place.

    Args:
        runtime: of the gateway.
        completion: of the request.
        key: the id of its API key, or the address where none is needed: who shares fairly.

    Raises:
        Unavailable: Triton is away, the model is loading, its turn would come too late, answers cannot be recorded, or the
            gateway stops.
    """
    if runtime.stopping:
        raise Unavailable("This gateway is being stopped; another one takes the request.", "stopping", 1)
    model = completion.head.target.triton_model
    if runtime.record is None or runtime.record_fault:
        why = runtime.record_fault or "the spool is not open yet"
        raise Unavailable(f"Answers cannot be recorded now: {why}. None is given unrecorded.", "record_unavailable", 5)
    if runtime.triton is None or not runtime.up:
        raise Unavailable("Triton does not answer; the request can be sent again soon.", "triton_unavailable")
    if not runtime.answers(model):
        raise Unavailable(
            f"{completion.head.target.name} is being loaded; the request can be sent again soon.", "model_loading"
        )
    target = completion.head.target
    completion.key = key
    completion.ticket = runtime.turns.join(
        model,
        Flow(target.model.name, key),
        completion.sampling["max_tokens"],
        len(completion.text.text),
        target.serve.max_wait.total_seconds(),
    )
    completion.restarts = runtime.restarts[model]
    return runtime.triton


def depart(runtime: Runtime, completion: Completion) -> None:
    """Gives back the completion's place, in the queue or in the model."""
    if completion.ticket is not None:
        runtime.turns.leave(completion.ticket)
        completion.ticket = None


def broken_off(runtime: Runtime, completion: Completion) -> bool:
    """Whether its model was lost meanwhile. A long silence makes the deployer look: a killed process says nothing."""
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
                if completion.progress.first_token is None:
                    _echo(completion, chunk)
                    chunk = replace(chunk, text=begun(completion.asked, completion.head.target) + chunk.text)
                _note(runtime, completion, chunk)
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
    model, seconds = completion.head.target.triton_model, runtime.settings.waiting_seconds
    if completion.ticket is not None:
        try:
            async with asyncio.timeout(seconds):
                await completion.ticket.turn.wait()
        except TimeoutError:
            raise Unavailable(f"The turn did not come in {seconds:g} s.", "waited_too_long") from None
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


def _echo(completion: Completion, chunk: Chunk) -> None:
    """What an answer that begins with its prompt says first."""
    if completion.asked.echo:
        tokens = "".join(str(next(iter(score.values()))["decoded_token"]) for score in chunk.prompt_logprobs)
        completion.progress.echo = completion.asked.prompt or tokens
        completion.progress.echoed = list(chunk.prompt_logprobs) if completion.asked.logprobs is not None else []


def _note(runtime: Runtime, completion: Completion, chunk: Chunk) -> None:
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
