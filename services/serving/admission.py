"""Whether a request is let in: its model is at hand, its turn comes in time, its answer can be recorded. Knows no HTTP."""

import asyncio
import json
import random
import time
import uuid
from collections.abc import Sequence
from functools import lru_cache, partial

from contracts.prompt import Prompt
from services.lm.template import Rendered
from services.serving.completion import Completion
from services.serving.domain.answers import Head
from services.serving.domain.asked import Asked
from services.serving.domain.choices import parts
from services.serving.domain.errors import ApiFault, Invalid, Unavailable
from services.serving.domain.fair_queue import Flow
from services.serving.domain.forms import FORMS
from services.serving.domain.project_prompt import apply_prompt
from services.serving.domain.routing import Target
from services.serving.domain.sampling import offered_tools, sampling_parameters, token_limit
from services.serving.domain.teacher_request import characters, tools_of
from services.serving.domain.teacher_routing import answerer
from services.serving.runtime import Runtime
from services.serving.teacher.hindrance import hindrance
from services.serving.triton.client import Triton
from services.serving.triton.grammar_trial import check_grammar
from services.serving.triton.grammars import GrammarRefused

KNOWN_GRAMMARS = 64
"""Structured outputs of which it is remembered whether they can be enforced; each has 65,536 characters at most."""


async def admit(
    runtime: Runtime, asked: Asked, key: str, started: float, prompt: Prompt | None = None
) -> tuple[list[Completion], Triton | None]:
    """The completions of a request, one for each choice, and the connection to Triton; `depart` gives their places back.

    Without a connection it is the project's teacher that is asked.

    Args:
        runtime: of the gateway.
        asked: what was asked.
        key: the id of its API key, or the address where none is needed: who shares fairly.
        started: time.perf_counter() when the request came.
        prompt: of the version that the request names; None where it names none.

    Raises:
        ModelNotFound: nothing answers to the name.
        Invalid: the prompt's variables, the template, the model's length or what the answer must look like refuse it.
        Unavailable: Triton or the teacher is away, the model is loading, its turn would come too late, too many requests wait
            for the template, answers cannot be recorded, or the gateway stops.
    """
    asked, target = apply_prompt(asked, _answerer(runtime, asked), prompt)
    _source(runtime, target)
    # A request that is refused anyway shall not wait for its template first.
    runtime.turns.foresee(target.triton_model, _flow(target, key), token_limit(asked, target), 0, _most(target))
    id = FORMS[asked.endpoint].prefix + uuid.uuid4().hex
    completions = [await _begin(runtime, part, target, started, id) for part in parts(asked)]
    if target.teacher is None:
        await _check_structure(completions[0])
    triton = _source(runtime, target)
    try:
        for each in completions:
            _join(runtime, each, key)
    except ApiFault:
        depart(runtime, completions)
        raise
    return completions, triton


def _answerer(runtime: Runtime, asked: Asked) -> Target:
    """Who answers: where a teacher should and cannot, what does instead is counted."""
    draw = random.random()  # noqa: S311 - a share of the traffic, no secret
    target, fault = answerer(
        runtime.routes,
        asked.model,
        draw,
        partial(hindrance, runtime, asked),
        lambda instead: runtime.answers(instead.triton_model),
    )
    if fault is not None and runtime.metrics:
        runtime.metrics.teacher_fallbacks.labels(fault.code or "").inc()
    return target


def _source(runtime: Runtime, target: Target) -> Triton | None:
    """The connection to Triton, None for a teacher.

    Raises:
        Unavailable: the target cannot answer now, or its answer not be recorded, and why.
    """
    if target.teacher is None:
        return at_hand(runtime, target)
    _recordable(runtime)
    return None


def at_hand(runtime: Runtime, target: Target) -> Triton:
    """The connection to Triton, if the target can answer now and its answer be recorded.

    Raises:
        Unavailable: it cannot, and why.
    """
    _recordable(runtime)
    if runtime.triton is None or not runtime.up:
        raise Unavailable("Triton does not answer; the request can be sent again soon.", "triton_unavailable")
    if not runtime.answers(target.triton_model):
        raise Unavailable(f"{target.name} is being loaded; the request can be sent again soon.", "model_loading")
    return runtime.triton


def _recordable(runtime: Runtime) -> None:
    """Raises Unavailable where no answer is given: the gateway ends, or none could be recorded."""
    refuse_stopping(runtime)
    if runtime.record is None or runtime.record_fault:
        why = runtime.record_fault or "the spool is not open yet"
        raise Unavailable(f"Answers cannot be recorded now: {why}. None is given unrecorded.", "record_unavailable", 5)


def refuse_stopping(runtime: Runtime) -> None:
    """Raises Unavailable where the gateway was told to end."""
    if runtime.stopping:
        raise Unavailable("This gateway is being stopped; another one takes the request.", "stopping", 1)


def depart(runtime: Runtime, completions: Sequence[Completion]) -> None:
    """Gives back the completions' places, in the queue or in the model."""
    for each in completions:
        if each.ticket is not None:
            runtime.turns.leave(each.ticket)
            each.ticket = None


async def _begin(runtime: Runtime, asked: Asked, target: Target, started: float, id: str) -> Completion:
    """A choice of the answer with this id."""
    sampling, taught = sampling_parameters(asked, target), target.teacher is not None
    text = Rendered("") if taught else await runtime.templates.prompt_text(asked, target)
    head = Head(
        id,
        asked.endpoint,
        int(time.time()),
        target,
        asked.include_usage,
        tools_of(asked) if taught else offered_tools(asked, target),
        asked.index,
        asked.logprobs,
        asked.shown,
        asked.model if taught else "",
    )
    return Completion(head, asked, text, sampling, f"{id}-{asked.index}" if asked.index else id, started)


async def _check_structure(completion: Completion) -> None:
    """Whether the answer can be held to what it must look like, found out in a thread: that may take a second."""
    if (structured := completion.sampling.get("structured_outputs")) is None:
        return
    name = completion.asked.structured_by or "tools"
    if (fault := await asyncio.to_thread(_grammar_fault, structured)) is not None:
        raise Invalid(f"{name}: {fault}"[:1000], "invalid_value", name)


@lru_cache(KNOWN_GRAMMARS)
def _grammar_fault(structured: str) -> str | None:
    """Why an answer cannot be held to this; an agent sends the same tools again and again."""
    try:
        check_grammar(json.loads(structured))
    except GrammarRefused as error:
        return str(error)
    return None


def _join(runtime: Runtime, completion: Completion, key: str) -> None:
    target, tokens = completion.head.target, completion.sampling["max_tokens"]
    completion.key = key
    length = len(completion.text.text) if target.teacher is None else characters(completion.asked, target)
    completion.ticket = runtime.turns.join(target.triton_model, _flow(target, key), tokens, length, _most(target))
    completion.restarts = runtime.restarts[target.triton_model]


def _flow(target: Target, key: str) -> Flow:
    return Flow(target.model.name, key)


def _most(target: Target) -> float:
    """Seconds that a request may wait for its turn."""
    return target.serve.max_wait.total_seconds()
