"""Batches requests continuously: a request joins the running rows at the next token; it knows nothing of Triton.

One thread runs the model. A pass reads a token of each running row and, beside them, pieces of prompts, together as
long as its time allows (pieces.py); the shortest rests and the oldest prompts take turns. As many requests run as
`max_num_seqs` and the memory for keys and values allow. What fails for one request fails that request alone.
"""

import threading
import time
from collections import deque
from collections.abc import Callable
from contextlib import suppress

import torch

from services.serving.triton.backend.constraints import blamed
from services.serving.triton.backend.decoder import Decoder, Piece
from services.serving.triton.backend.kv_cache import Prompt
from services.serving.triton.backend.meter import Meter
from services.serving.triton.backend.pieces import Budget
from services.serving.triton.backend.prefix_cache import PrefixCache
from services.serving.triton.backend.rows import Delta, Reading, Request, Row, Tokens, advance, fail, finish, new_row
from services.serving.triton.backend.sampler import choose
from services.serving.triton.backend.schedule import next_pieces

PREFIX_SHARE = 8  # of the memory for keys and values, one part in so many keeps beginnings of prompts


class Engine:
    """Runs requests on a decoder in a thread of its own, from start() to stop()."""

    def __init__(self, decoder: Decoder, tokens: Tokens, log: Callable[[str], None]) -> None:
        self.decoder, self.tokens, self.log = decoder, tokens, log
        self.waiting: deque[Request] = deque()
        self.rows: list[Row] = []  # in the order of their slots
        self.reading: list[Reading] = []
        self.budget = Budget()
        self.prefixes = PrefixCache(decoder.room // PREFIX_SHARE)
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
        rows, reading, meter = list(self.rows), list(self.reading), self.meter
        return {
            "steps": meter.steps,
            "rows": len(rows) + len(reading),
            "capacity": self.decoder.slots.rows,
            "queue": len(waiting),
            "oldest_wait": max((time.monotonic() - request.made for request in waiting), default=0.0),
            "tokens_per_second": meter.decoded.a_second,
            "prefill_tokens_per_second": meter.read.a_second,
            "queued_tokens": sum(len(request.prompt) for request in waiting) + sum(each.rest for each in reading),
            "free_tokens": max(0, self.decoder.room - sum(row.most for row in rows) - sum(r.row.most for r in reading)),
        }

    def stop(self) -> None:
        """Ends the running rows with an error and waits for the thread."""
        with self.changed:
            self.stopping = True
            self.changed.notify()
        self.thread.join()

    @torch.inference_mode()
    def run(self) -> None:
        """Works until stop()."""
        while self._wait():
            try:
                self._admit()
                self._step()
            except Exception as error:  # a fault of the engine itself: no row can be trusted
                self._fail_all(f"the engine failed: {self._told('engine', error)}")
        self._fail_all("the model is being unloaded")

    def _wait(self) -> bool:
        with self.changed:
            self.changed.wait_for(lambda: self.stopping or self.rows or self.reading or self.waiting)
            return not self.stopping

    def _told(self, where: str, error: Exception) -> str:
        self.log(f"{where}: {type(error).__name__}: {error}")
        return _brief(error)

    def _fail_all(self, message: str) -> None:
        rows, self.rows, self.reading = [*self.rows, *(each.row for each in self.reading)], [], []
        for row in rows:
            if not row.done:
                fail(row, message)
        if self.stopping:
            for request in self.waiting:
                request.listener.emit(Delta(error=message))
            self.waiting.clear()

    def _admit(self) -> None:
        while self.waiting and (self.waiting[0].listener.cancelled or self._fits(self.waiting[0])):
            with self.changed:
                request = self.waiting.popleft()
            if request.listener.cancelled:
                request.listener.emit(Delta(finish_reason="cancelled"))
                continue
            try:
                row = new_row(request, self.tokens, self.decoder.max_model_len, self.decoder.device)
            except Exception as error:
                request.listener.emit(Delta(error=f"the prompt could not be read: {self._told('prompt', error)}"))
                continue
            self.reading.append(Reading(row, Prompt(len(request.prompt))))

    def _fits(self, request: Request) -> bool:
        """Whether there is a row for it, and memory were all to become as long as they may; one always fits."""
        running = [*self.rows, *(each.row for each in self.reading)]
        if not running:
            return True
        limit = self.decoder.max_model_len
        wanted = min(limit, len(request.prompt) + (request.sampling.max_tokens or limit))
        held = self.decoder.slots.held(len(running) + 1, max(wanted, *(row.most for row in running)))
        unread = len(request.prompt) + sum(each.prompt.length for each in self.reading)
        return len(running) < self.decoder.slots.rows and held + unread <= self.decoder.room

    def _step(self) -> None:
        self._drop_cancelled()
        self._make_room()
        left = self.budget.tokens(len(self.rows), [each.rest for each in self.reading])
        chosen = next_pieces(self.reading, left, self._beginning, oldest=self.meter.steps % 2 == 1)
        if not self.rows and not chosen:
            return
        rows, read = len(self.rows), sum(piece.stop - piece.start for _, piece in chosen)
        began = time.monotonic()
        try:
            logits = self._run(self.rows, 0, [piece for _, piece in chosen])
            likeliest: list[int] = logits.argmax(-1).tolist()
        except Exception as error:
            self._step_apart(error, chosen)
            return
        seconds = time.monotonic() - began
        self.budget.took(seconds, rows, read)
        self.meter.passed(seconds, rows, read)
        for row, line, token in zip(self.rows, logits, likeliest, strict=False):
            row.length += 1
            self._take(row, line, token)
        self._sweep()
        for (reading, _), line, token in zip(chosen, logits[rows:], likeliest[rows:], strict=True):
            if not reading.rest:
                self._join(reading, line, token)

    def _beginning(self, request: Request) -> Prompt:
        with suppress(MemoryError, RuntimeError):  # no memory for a copy: it is read anew
            if request.sampling.prompt_logprobs is not None:  # of all its tokens: all are read
                return Prompt(len(request.prompt))
            return self.prefixes.begin(request.prompt, request.adapter)
        return Prompt(len(request.prompt))

    def _run(self, rows: list[Row], first: int, pieces: list[Piece]) -> torch.Tensor:
        tokens, lengths = [row.chooser.output[-1] for row in rows], [row.length for row in rows]
        return self.decoder.run(tokens, lengths, [row.request.adapter for row in rows], first=first, pieces=pieces)

    def _step_apart(self, error: Exception, chosen: list[tuple[Reading, Piece]]) -> None:
        """After a pass that failed: each row's and each piece's own, so that only those fail whose own fails too."""
        self._told("step", error)
        for slot, row in enumerate(self.rows):
            try:
                logits = self._run([row], slot, [])[0]
            except Exception as own:
                fail(row, f"the engine failed: {self._told('row', own)}")
                continue
            row.length += 1
            self.meter.steps += 1
            self._take(row, logits, int(logits.argmax()))
        self._sweep()
        for reading, piece in chosen:
            try:
                logits = self._run([], 0, [piece])[0]
            except Exception as own:
                self.reading.remove(reading)
                fail(reading.row, f"the prompt could not be read: {self._told('prompt', own)}")
                continue
            self.meter.steps += 1
            if not reading.rest:
                self._join(reading, logits, int(logits.argmax()))

    def _take(self, row: Row, logits: torch.Tensor, likeliest: int) -> None:
        try:
            advance(row, likeliest if row.chooser.plain else choose(logits[None], [row.chooser])[0])
        except Exception as error:
            fail(row, f"{blamed(error)}: {self._told('row', error)}")

    def _join(self, reading: Reading, logits: torch.Tensor, likeliest: int) -> None:
        """Gives a row whose prompt is read its slot and its first token."""
        self.reading.remove(reading)
        try:
            self.decoder.slots.adopt(len(self.rows), reading.prompt, self._longest())
        except Exception as error:
            fail(reading.row, f"the prompt could not be read: {self._told('prompt', error)}")
            return
        self.rows.append(reading.row)
        with suppress(MemoryError, RuntimeError):  # no memory to keep it: the answer goes on
            self.prefixes.keep(reading.row.request.prompt, reading.row.request.adapter, reading.prompt)
        self._take(reading.row, logits, likeliest)
        self._sweep()

    def _make_room(self) -> None:
        """Reserves the next tokens' room and gives back what is too much; without memory the longest row fails."""
        while True:
            try:
                self.decoder.slots.reserve(len(self.rows), self._longest())
            except Exception as error:
                fail(max(self.rows, key=lambda row: row.length), f"no memory for more: {self._told('memory', error)}")
                self._sweep()
            else:
                return

    def _longest(self) -> int:
        return max((row.length + 1 for row in self.rows), default=0)

    def _drop_cancelled(self) -> None:
        for row in [*self.rows, *(each.row for each in self.reading)]:
            if row.request.listener.cancelled:
                finish(row, "cancelled")
        self.reading = [each for each in self.reading if not each.row.done]
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


def _brief(error: Exception) -> str:
    return (str(error).splitlines() or [type(error).__name__])[0][:300]
