"""Batches requests continuously: a request joins the running rows at the next token; it knows nothing of Triton.

One thread runs the model. Between two tokens it lets waiting requests in (at most PREFILL_TOKENS of prompt, so that
the running rows are not kept long), drops cancelled rows, and moves the last row into each slot that became free.
"""

import threading
import time
from collections import deque
from collections.abc import Callable

import torch

from services.serving.triton.backend.decoder import Decoder
from services.serving.triton.backend.meter import Meter
from services.serving.triton.backend.rows import Delta, Request, Row, Tokens, advance, finish, new_row
from services.serving.triton.backend.sampler import choose

PREFILL_TOKENS = 512


class Engine:
    """Runs requests on a decoder in a thread of its own, from start() to stop()."""

    def __init__(self, decoder: Decoder, tokens: Tokens, log: Callable[[str], None]) -> None:
        self.decoder, self.tokens, self.log = decoder, tokens, log
        self.waiting: deque[Request] = deque()
        self.rows: list[Row] = []
        self.changed = threading.Condition()
        self.stopping = False
        self.meter = Meter()
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

    def status(self) -> dict[str, float]:
        """How the engine fares, answered from any thread at once: the fields of services/serving/triton/status.py."""
        with self.changed:
            waiting = list(self.waiting)
        rows, meter = list(self.rows), self.meter
        slots = self.decoder.slots
        return {
            "steps": meter.steps,
            "rows": len(rows),
            "capacity": slots.rows,
            "queue": len(waiting),
            "oldest_wait": max((time.monotonic() - request.made for request in waiting), default=0.0),
            "tokens_per_second": meter.decoded.a_second,
            "prefill_tokens_per_second": meter.read.a_second,
            "queued_tokens": sum(len(request.prompt) for request in waiting),
            "free_tokens": slots.rows * slots.limit - sum(row.length for row in rows),
        }

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
            with self.changed:
                request = self.waiting.popleft()
            if request.listener.cancelled:
                request.listener.emit(Delta(finish_reason="cancelled"))
                continue
            budget -= len(request.prompt)
            self._begin(request)

    def _begin(self, request: Request) -> None:
        try:
            row = new_row(request, self.tokens, self.decoder.max_model_len, self.decoder.device)
            began = time.monotonic()
            logits = self.decoder.prefill(len(self.rows), request.prompt, request.adapter)
            self.meter.steps += 1
            self.meter.read.add(len(request.prompt), time.monotonic() - began)
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
                finish(row, "cancelled")
        self._sweep()
        if not self.rows:
            return
        began, rows = time.monotonic(), len(self.rows)
        logits = self.decoder.step([row.chooser.output[-1] for row in self.rows], [row.length for row in self.rows],
                                   [row.request.adapter for row in self.rows])  # fmt: skip
        for row, token in zip(self.rows, choose(logits, [row.chooser for row in self.rows]), strict=True):
            row.length += 1
            advance(row, token)
        self._sweep()
        self.meter.steps += 1
        self.meter.decoded.add(rows, time.monotonic() - began)

    def _sweep(self) -> None:
        """Takes finished rows out, keeping the slots 0..n-1 filled."""
        for slot in range(len(self.rows) - 1, -1, -1):
            if not self.rows[slot].done:
                continue
            last = self.rows.pop()
            if slot < len(self.rows):
                self.decoder.slots.move(len(self.rows), slot, last.length)
                self.rows[slot] = last


def _brief(error: Exception) -> str:
    return (str(error).splitlines() or [type(error).__name__])[0][:300]
