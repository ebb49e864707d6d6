"""Lets requests on to Triton by turns, no more at once than its models have rows: so the queue is here, and a fair one.

One for a gateway; touched by the event loop's thread alone. Knows neither HTTP nor Triton's client.
"""

import asyncio
import time
from collections import Counter, defaultdict, deque
from collections.abc import Callable
from dataclasses import dataclass, field

from services.serving.domain.errors import Overloaded, ShareFull, Unavailable
from services.serving.domain.fair_queue import FairQueue, Flow
from services.serving.domain.waiting import Pace, level, retry_after, wait_seconds

RECENT = 60.0
"""Seconds for which rows are kept free for somebody who asked."""
AHEAD = 1
"""Requests that a model is given beyond its rows, so that no row waits for the way to the gateway and back."""
CHARACTERS = 40.0
"""Of a prompt that cost as much as a token of the answer: four make a token, and ten tokens are read while one is made."""


@dataclass(eq=False, slots=True)
class Ticket:
    """A request that waits for its turn or has it. `allowed` tokens are the most that its answer may have."""

    model: str
    flow: Flow
    allowed: float
    prompt: float
    """What reading the prompt costs, in tokens of an answer."""
    charged: float = 0.0
    made: int = 0
    noted: float = 0.0
    """When its row was last seen at work; 0 before its turn."""
    turn: asyncio.Event = field(default_factory=asyncio.Event)

    async def wait(self, seconds: float) -> None:
        """Waits until it is let on.

        Raises:
            Unavailable: that did not come in time.
        """
        try:
            async with asyncio.timeout(seconds):
                await self.turn.wait()
        except TimeoutError:
            raise Unavailable(f"The turn did not come in {seconds:g} s.", "waited_too_long") from None


@dataclass(slots=True)
class _Model:
    queue: FairQueue[Ticket] = field(default_factory=FairQueue[Ticket])
    running: set[Ticket] = field(default_factory=set[Ticket])
    pace: Pace = field(default_factory=Pace)
    asked: dict[Flow, float] = field(default_factory=dict[Flow, float])
    """When each asked last, within RECENT seconds; the latest stands last."""
    at_work: Counter[Flow] = field(default_factory=Counter[Flow])
    """Requests of each that wait or run."""
    crowd: deque[tuple[float, int]] = field(default_factory=deque[tuple[float, int]])
    """When so many flows were at work at once, within RECENT seconds; those that later ones outdo are left out."""

    def came(self, flow: Flow, now: float) -> None:
        """Notes that a flow has a request more at work."""
        self.asked.pop(flow, None)
        self.asked[flow] = now
        self.at_work[flow] += 1
        while self.crowd and self.crowd[-1][1] <= len(self.at_work):
            self.crowd.pop()
        self.crowd.append((now, len(self.at_work)))

    def forget(self, now: float) -> None:
        """Drops what was too long ago to have rows kept free."""
        while self.asked and next(iter(self.asked.values())) <= now - RECENT:
            del self.asked[next(iter(self.asked))]
        while self.crowd and self.crowd[0][0] <= now - RECENT:
            self.crowd.popleft()

    def left(self, ticket: Ticket) -> float:
        """Tokens that an answer is still expected to cost."""
        unread = 0.0 if ticket.made else ticket.prompt
        return unread + max(1.0, self.pace.expected(ticket.allowed) - ticket.made)


class Turns:
    """The requests of all models of this gateway, at most `most` at once.

    Args:
        rows: answers that a Triton model makes at once.
        per_row: tokens a second of one row as the engine says, None where it does not; until an answer was seen here.
        share: of the rows that one key of a project may have while others ask.
    """

    def __init__(
        self,
        most: int,
        rows: Callable[[str], int],
        per_row: Callable[[str], float | None] = lambda _: None,
        clock: Callable[[], float] = time.perf_counter,
        share: float = 1.0,
    ) -> None:
        self.most, self.share = most, share
        self._rows, self._per_row, self._clock = rows, per_row, clock
        self._models: defaultdict[str, _Model] = defaultdict(_Model)
        self._flows: Counter[Flow] = Counter()
        self._ended = asyncio.Event()

    async def ended(self) -> None:
        """Returns once no request waits or runs."""
        while self._flows:
            self._ended.clear()
            await self._ended.wait()

    @property
    def at_work(self) -> int:
        """Requests that wait or run."""
        return self._flows.total()

    @property
    def waiting(self) -> int:
        """Requests that wait for their turn."""
        return sum(len(model.queue) for model in self._models.values())

    def foresee(self, model: str, flow: Flow, allowed: float, characters: int, max_wait: float) -> Ticket:
        """The ticket of a request that may join now; it has no place yet.

        Raises:
            Overloaded: too much is at work, or the wait would be longer than `max_wait` seconds.
            ShareFull: it would not but for what the same key of the same project has at work.
        """
        self._refuse_full(flow)
        ticket = Ticket(model, flow, allowed, characters / CHARACTERS)
        ticket.charged = ticket.prompt + self._models[model].pace.expected(allowed)
        wait, without_own = self.waits(ticket)
        if wait > max_wait:
            fault = ShareFull if without_own <= max_wait else Overloaded
            raise fault(
                f"the answer would begin in {wait:.0f} s, later than {max_wait:g} s", retry_after(wait, max_wait)
            )
        return ticket

    def join(self, model: str, flow: Flow, allowed: float, characters: int, max_wait: float) -> Ticket:
        """A place in the queue for a request, which `leave` gives back; where a row is free the turn is its own at once.

        Raises:
            Overloaded, ShareFull: as `foresee`.
        """
        ticket = self.foresee(model, flow, allowed, characters, max_wait)
        state = self._models[model]
        state.came(flow, self._clock())
        self._flows[flow] += 1
        state.queue.put(flow, ticket, ticket.charged)
        self._let_on(model)
        return ticket

    def leave(self, ticket: Ticket) -> None:
        """Ends a request, however it ended; who waits may come on."""
        state = self._models[ticket.model]
        if ticket in state.running:
            state.running.remove(ticket)
            state.queue.refund(ticket.flow, ticket.charged - ticket.prompt - ticket.made)
        elif not state.queue.drop(ticket.flow, ticket):
            return
        for count in (self._flows, state.at_work):
            count[ticket.flow] -= 1
            if not count[ticket.flow]:
                del count[ticket.flow]
        if not self._flows:
            self._ended.set()
        self._let_on(ticket.model)

    def again(self, ticket: Ticket, allowed: float) -> None:
        """Ends a part of a request that has its turn; the next, of `allowed` tokens, waits for its own as a newcomer would."""
        state = self._models[ticket.model]
        state.running.remove(ticket)
        ticket.allowed, ticket.charged, ticket.made = allowed, state.pace.expected(allowed), 0
        ticket.turn.clear()
        state.queue.put(ticket.flow, ticket, ticket.charged)
        self._let_on(ticket.model)

    def saw(self, ticket: Ticket, made: int, ended: bool = False) -> None:
        """Notes that an answer has `made` tokens now, and whether the model ended it itself."""
        now, state = self._clock(), self._models[ticket.model]
        pace, rows = state.pace, min(len(state.running), self._rows(ticket.model))
        pace.saw(made - ticket.made, max(0.0, now - ticket.noted), max(1, rows))
        ticket.made, ticket.noted = made, now
        if ended:
            pace.ended(made, ticket.allowed)

    def waits(self, ticket: Ticket) -> tuple[float, float]:
        """Seconds until a request that comes now would be let on, and as if its key had nothing else at work.

        0 while nobody knows how fast the model is.
        """
        state, rows = self._models[ticket.model], self._rows(ticket.model)
        state.forget(self._clock())
        pace = state.pace.per_row(rows) or self._per_row(ticket.model)
        if not pace:
            return 0.0, 0.0
        queue = state.queue.copy()
        queue.put(ticket.flow, ticket, ticket.charged)
        held = self._held(state, rows) - {ticket.flow}
        ahead: list[Ticket] = []
        while (taken := queue.take(held)) is not ticket:
            ahead.append(taken)

        def seconds(whose: Callable[[Ticket], bool], rows: int = rows) -> float:
            running = [state.left(t) for t in state.running if whose(t)]
            return wait_seconds(running, [state.left(t) for t in ahead if whose(t)], rows, pace)

        own = seconds(lambda t: t.flow == ticket.flow, self._most(state, rows))
        return max(own, seconds(lambda _: True)), seconds(lambda t: t.flow != ticket.flow)

    def _refuse_full(self, flow: Flow) -> None:
        """Dynamic thresholds (Choudhury, Hahne, IEEE/ACM ToN 6(2), 1998): nobody holds more than what is still free."""
        free = self.most - self.at_work
        if free <= 0:
            raise Overloaded(f"{self.at_work} requests are at work already; send this one again", 1)
        if self._flows[flow] >= free:
            raise ShareFull(f"{self._flows[flow]} requests of this key for {flow.project} are at work already", 1)

    def _most(self, state: _Model, rows: int) -> int:
        """Rows that one flow may have: all, or while others asked a moment ago a share that leaves each of those its row.

        Flows at work count with what they have, and as many of the idle ones with a row each as were at work at once;
        who wants more than the others leave has no more than the next (max-min fairness: Bertsekas, Gallager, Data
        Networks, 2nd ed., 6.5.2).
        """
        if len(state.asked.keys() | state.at_work.keys()) < 2:
            return rows
        idle = max(0, (state.crowd[0][1] if state.crowd else 0) - len(state.at_work))
        return max(1, min(int(rows * self.share), level(state.at_work.values(), rows - idle)))

    def _held(self, state: _Model, rows: int) -> set[Flow]:
        """The flows that have all the rows that they may have."""
        running, most = Counter(ticket.flow for ticket in state.running), self._most(state, rows)
        return {flow for flow, count in running.items() if count >= (most if most < rows else rows + AHEAD)}

    def _let_on(self, model: str) -> None:
        state, rows = self._models[model], self._rows(model)
        state.forget(self._clock())
        while len(state.queue) and len(state.running) < rows + AHEAD:
            try:
                ticket = state.queue.take(self._held(state, rows))
            except IndexError:
                return
            ticket.noted = self._clock()
            state.running.add(ticket)
            ticket.turn.set()
