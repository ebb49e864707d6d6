"""Batches requests continuously: a request joins the running rows at the next token; it knows nothing of Triton.

One thread runs the model. Between two tokens it lets waiting requests in (at most PREFILL_TOKENS of prompt, so that
the running rows are not kept long), drops cancelled rows, and moves the last row into each slot that became free.
"""

import threading
from collections import deque
from collections.abc import Callable, Sequence
from dataclasses import dataclass, field
from typing import Protocol

import torch

from services.lm.adapters import Adapter
from services.serving.triton.backend.decoder import Decoder
from services.serving.triton.backend.detokenizer import Detokenizer, scan
from services.serving.triton.backend.sampler import Sampler, choose, generator
from services.serving.triton.backend.sampling_parameters import Sampling

PREFILL_TOKENS = 512


@dataclass(frozen=True, slots=True)
class Delta:
    """What one step added to an answer; the last has a finish_reason (stop, length, cancelled) or an error."""

    text: str = ""
    tokens: int = 0
    finish_reason: str | None = None
    error: str | None = None


class Listener(Protocol):
    """Who asked: both are called from the engine's thread and must return at once."""

    cancelled: bool

    def emit(self, delta: Delta) -> None:
        """Takes the next piece of the answer."""
        ...


@dataclass(frozen=True, slots=True)
class Request:
    """A prompt in tokens and what is wanted of it."""

    prompt: list[int]
    sampling: Sampling
    adapter: Adapter | None
    listener: Listener
    lead: str = ""  # blanks that the chat template writes before an answer: no part of its text


@dataclass(slots=True)
class Row:
    """A request that runs: its newest token is not yet in its slot, which holds `length` tokens."""

    request: Request
    chooser: Sampler
    text: Detokenizer
    ends: frozenset[int]
    max_tokens: int
    length: int
    lead: str = ""  # not yet met
    held: str = ""  # text that may become a stop string
    owed: int = 0  # tokens not yet reported
    done: bool = field(default=False)


@dataclass(slots=True)
class Tokens:
    """What the engine needs of a tokenizer."""

    decode: Callable[[Sequence[int], bool], str]  # (tokens, skip special ones)
    ends: tuple[int, ...]


class Engine:
    """Runs requests on a decoder in a thread of its own, from start() to stop()."""

    def __init__(self, decoder: Decoder, tokens: Tokens, log: Callable[[str], None]) -> None:
        self.decoder, self.tokens, self.log = decoder, tokens, log
        self.waiting: deque[Request] = deque()
        self.rows: list[Row] = []
        self.changed = threading.Condition()
        self.stopping = False
        self.thread = threading.Thread(target=self.run, name="engine", daemon=True)

    def start(self) -> None:
        """Starts the thread."""
        self.thread.start()

    def submit(self, request: Request) -> None:
        """Queues a request; its listener hears of all that follows."""
        with self.changed:
            if self.stopping:
                request.listener.emit(Delta(error="the model is being unloaded"))
                return
            self.waiting.append(request)
            self.changed.notify()

    def stop(self) -> None:
        """Ends the running rows with an error and waits for the thread."""
        with self.changed:
            self.stopping = True
            self.changed.notify()
        self.thread.join()

    @torch.inference_mode()
    def run(self) -> None:
        """Works until stop(). Whatever fails in a step ends its rows with an error, and the next step begins."""
        while self._wait():
            try:
                self._admit()
                self._step()
            except Exception as error:
                self.log(f"engine: {type(error).__name__}: {error}")
                self._fail(f"the engine failed: {_brief(error)}")
        self._fail("the model is being unloaded")

    def _wait(self) -> bool:
        with self.changed:
            self.changed.wait_for(lambda: self.stopping or self.rows or self.waiting)
            return not self.stopping

    def _fail(self, message: str) -> None:
        rows, self.rows = self.rows, []
        stopped = [row.request for row in rows if not row.done]
        if self.stopping:
            stopped += self.waiting
            self.waiting.clear()
        for request in stopped:
            request.listener.emit(Delta(error=message))

    def _admit(self) -> None:
        budget = PREFILL_TOKENS
        while self.waiting and budget > 0 and len(self.rows) < self.decoder.slots.rows:
            request = self.waiting.popleft()
            if request.listener.cancelled:
                request.listener.emit(Delta(finish_reason="cancelled"))
                continue
            budget -= len(request.prompt)
            self._begin(request)

    def _begin(self, request: Request) -> None:
        try:
            row = _new_row(request, self.decoder, self.tokens)
            logits = self.decoder.prefill(len(self.rows), request.prompt, request.adapter)
            token = choose(logits, [row.chooser])[0]
        except Exception as error:
            self.log(f"prefill: {type(error).__name__}: {error}")
            request.listener.emit(Delta(error=f"the prompt could not be read: {_brief(error)}"))
            return
        self.rows.append(row)
        advance(row, token)
        self._sweep()

    def _step(self) -> None:
        for row in self.rows:
            if row.request.listener.cancelled:
                _finish(row, "cancelled")
        self._sweep()
        if not self.rows:
            return
        logits = self.decoder.step([row.chooser.output[-1] for row in self.rows], [row.length for row in self.rows],
                                   [row.request.adapter for row in self.rows])  # fmt: skip
        for row, token in zip(self.rows, choose(logits, [row.chooser for row in self.rows]), strict=True):
            row.length += 1
            advance(row, token)
        self._sweep()

    def _sweep(self) -> None:
        """Takes finished rows out, keeping the slots 0..n-1 filled."""
        for slot in range(len(self.rows) - 1, -1, -1):
            if not self.rows[slot].done:
                continue
            last = self.rows.pop()
            if slot < len(self.rows):
                self.decoder.slots.move(len(self.rows), slot, last.length)
                self.rows[slot] = last


def _new_row(request: Request, decoder: Decoder, tokens: Tokens) -> Row:
    sampling = request.sampling
    ends = (*(() if sampling.ignore_eos else tokens.ends), *sampling.stop_token_ids)
    room = decoder.max_model_len - len(request.prompt)
    return Row(
        request=request,
        chooser=Sampler(
            sampling, request.prompt, [], tuple({*tokens.ends, *ends}), generator(sampling, decoder.device)
        ),
        text=Detokenizer(lambda ids: tokens.decode(ids, sampling.skip_special_tokens), list(request.prompt)),
        ends=frozenset(ends),
        max_tokens=min(room, sampling.max_tokens or room),
        length=len(request.prompt),
        lead=request.lead,
    )


def advance(row: Row, token: int) -> None:
    """Takes the next token into the row's text; emits what is certain, and the end when it has come."""
    row.chooser.output.append(token)
    row.owed += 1
    enough = len(row.chooser.output) >= row.request.sampling.min_tokens
    ended = token in row.ends and enough
    full = len(row.chooser.output) >= row.max_tokens
    news = "" if ended else row.text.push(token)
    if ended or full:
        news += row.text.flush()
    if news:
        news, row.lead = news.removeprefix(row.lead), ""
    shown, row.held, stop = scan(row.held + news, row.request.sampling.stop if enough else ())
    if stop is not None:
        shown += stop if row.request.sampling.include_stop_str_in_output else ""
        _finish(row, "stop", shown)
    elif ended or full:
        _finish(row, "stop" if ended else "length", shown + row.held)
    elif shown:
        row.request.listener.emit(Delta(shown, row.owed))
        row.owed = 0


def _finish(row: Row, reason: str, text: str = "") -> None:
    row.done = True
    row.request.listener.emit(Delta(text, row.owed, reason))


def _brief(error: Exception) -> str:
    return (str(error).splitlines() or [type(error).__name__])[0][:300]
