"""Asks a judge many questions, several at once, until all are answered or nothing more is to be had. Never fails for its sake.

What becomes of a question: its verdict; nothing, where the judge refuses it or gives nonsense twice; another try, where it is
away, busy, silent or fails. What ends the asking: no host or key for it, its requests or budget of the day used up, GIVE_UP
failures in a row, a fault that lasts, or the time.
"""

import json
import time
from collections import Counter
from collections.abc import Callable, Mapping
from concurrent.futures import ThreadPoolExecutor
from dataclasses import dataclass, field
from threading import Event, Lock

from contracts.judge import Judge
from services.chassis.endpoints.failures import LONGEST_PAUSE, pause_before
from services.evaluator.judge.client import Fault, Said, tokens_of
from services.evaluator.judge.ledger import Ledger, Spent
from services.evaluator.judge.question import Body, Nonsense, once_more, verdict

GIVE_UP = 5
"""Questions in a row that all their tries could not get an answer to."""
Ask = Callable[[Body], Said]
"""Sends a request once; raises client.Fault."""


@dataclass(slots=True)
class Tally:
    """What came of asking: the verdicts by key, and what that took. `ended` says why not all was asked."""

    wins: dict[str, float] = field(default_factory=dict[str, float])
    cached: int = 0
    calls: int = 0
    failures: Counter[str] = field(default_factory=Counter[str])
    prompt_tokens: int = 0
    completion_tokens: int = 0
    cost: float = 0.0
    ended: str | None = None


def ask_all(
    questions: Mapping[str, Body], judge: Judge, ledger: Ledger, ask: Ask, done: Callable[[int], None], why: str | None
) -> Tally:
    """The verdicts on `questions`, by key in the order in which they are to be asked; `done(n)` after every n-th of them.

    What the ledger knows is not asked. `why` says that nothing can be asked.

    Raises:
        DBAPIError: the ledger's database is away; what was written until then is not asked again.
    """
    tally = Tally(wins=ledger.known(list(questions)), ended=why)
    tally.cached = len(tally.wins)
    open_questions = {key: body for key, body in questions.items() if key not in tally.wins}
    if not open_questions:
        tally.ended = None
        return tally
    asking = _Asking(judge, ledger, ask, tally, time.monotonic() + judge.within.total_seconds())
    if why is not None:
        return tally
    pool = ThreadPoolExecutor(judge.in_flight, thread_name_prefix="judge")
    try:
        futures = [pool.submit(asking.question, key, body) for key, body in open_questions.items()]
        for number, future in enumerate(futures, start=tally.cached + 1):
            future.result()
            done(number)
    finally:
        asking.over.set()
        pool.shutdown(wait=False, cancel_futures=True)
    return tally


class _Asking:
    """What the threads share."""

    def __init__(self, judge: Judge, ledger: Ledger, ask: Ask, tally: Tally, until: float) -> None:
        self.judge, self.ledger, self.ask, self.tally, self.until = judge, ledger, ask, tally, until
        self.over = Event()
        self._lock = Lock()
        self._in_a_row = 0

    def question(self, key: str, body: Body) -> None:
        """Asks until there is a verdict or there will be none."""
        sent, attempt = body, 0
        while not self._is_over():
            attempt += 1
            number = self.ledger.reserve(key, self.judge, self._most(sent))
            if isinstance(number, str):
                return self._end(number)
            try:
                said = self.ask(sent)
            except Fault as fault:
                self._failed(number, sent, fault)
                if not self._again(fault, attempt):
                    return None
                continue
            try:
                win = verdict(self.judge, said.text, said.first_token)
            except Nonsense:
                self._said(number, said, None)
                if sent is not body or attempt > self.judge.retries:
                    return None
                sent = once_more(body, said.text)
                continue
            return self._said(number, said, win, key)
        return None

    def _is_over(self) -> bool:
        if time.monotonic() >= self.until:
            self._end(f"the time for the judge, {self.judge.within.total_seconds():g} s, is over")
        return self.over.is_set()

    def _again(self, fault: Fault, attempt: int) -> bool:
        """Whether the question is asked once more; waits before it is."""
        if fault.is_lasting:
            self._end(f"the judge cannot be asked: {fault}")
            return False
        pause = pause_before(attempt) if fault.pause is None else fault.pause
        if not fault.passes or attempt > self.judge.retries or pause > LONGEST_PAUSE:
            with self._lock:
                self._in_a_row += fault.passes
                given_up = self._in_a_row >= GIVE_UP
            if given_up:
                self._end(f"the judge failed {GIVE_UP} times in a row, last {fault}")
            return False
        self.over.wait(min(pause, max(0.0, self.until - time.monotonic())))
        return True

    def _end(self, why: str) -> None:
        with self._lock:
            self.tally.ended = self.tally.ended or why
        self.over.set()

    def _said(self, number: int, said: Said, win: float | None, key: str = "") -> None:
        cost = self.judge.cost(said.prompt_tokens, said.completion_tokens) or 0.0
        self._settle(
            number,
            Spent(win, said.prompt_tokens, said.completion_tokens, cost),
            None if win is not None else "nonsense",
        )
        if win is not None:
            with self._lock:
                self.tally.wins[key] = win
                self._in_a_row = 0

    def _failed(self, number: int, sent: Body, fault: Fault) -> None:
        """Of an answer that began or may have begun the most that it can have cost is counted."""
        cost = self._most(sent) if fault.may_have_cost else 0.0
        self._settle(number, Spent(None, 0, 0, cost), fault.code)

    def _settle(self, number: int, spent: Spent, failure: str | None) -> None:
        self.ledger.settle(number, spent)
        with self._lock:
            tally = self.tally
            tally.calls += 1
            tally.prompt_tokens += spent.prompt_tokens
            tally.completion_tokens += spent.completion_tokens
            tally.cost += spent.cost
            if failure is not None:
                tally.failures[failure] += 1

    def _most(self, sent: Body) -> float:
        """The most that a request can cost, its prompt's tokens guessed."""
        return self.judge.cost(tokens_of(json.dumps(dict(sent))), int(sent[self.judge.length_parameter])) or 0.0
