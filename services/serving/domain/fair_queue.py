"""Whose request is let on next: projects take turns by tokens, and the API keys of a project among themselves. Pure.

Start-time fair queueing (Goyal, Vin, Cheng, "Start-time Fair Queueing", SIGCOMM 1996, section 2), hierarchical as in section
3 there: a turn begins at max(the flow's virtual time, the latest beginning of any turn) and moves the flow's virtual time on
by the tokens that it costs; the waiting flow with the earliest beginning is next. An idle flow saves nothing up.
"""

from collections import deque
from collections.abc import Collection, Hashable, Iterator, Mapping
from dataclasses import dataclass, field
from typing import Generic, TypeVar

T = TypeVar("T", bound=Hashable)
FEW = 16


@dataclass(frozen=True, slots=True)
class Flow:
    """Who asks: the project, and the API key (the address where none is needed)."""

    project: str
    key: str


@dataclass(slots=True)
class _Turns:
    """Virtual times of the flows of one level. `now` is the latest beginning of a turn."""

    now: float = 0.0
    times: dict[str, float] = field(default_factory=dict[str, float])

    def begins(self, name: str) -> float:
        return max(self.times.get(name, 0.0), self.now)

    def charge(self, name: str, tokens: float) -> None:
        self.now = self.begins(name)
        self.times[name] = self.now + tokens

    def forget(self, waiting: Mapping[str, object]) -> bool:
        """Drops who waits for nothing and owes nothing: to come back anew makes no difference to them. Whether it looked.

        Once these are the most, so that a turn costs no look at all of them. Where nobody waits all begin anew.
        """
        if not waiting:
            self.now, self.times = 0.0, {}
            return True
        if len(self.times) <= 2 * len(waiting) + FEW:
            return False
        self.times = {name: time for name, time in self.times.items() if time > self.now or name in waiting}
        return True


@dataclass(slots=True)
class FairQueue(Generic[T]):
    """Requests that wait, with their cost in tokens; each flow's own are served in the order in which they came."""

    waiting: dict[str, dict[str, deque[tuple[T, float]]]] = field(
        default_factory=dict[str, dict[str, deque[tuple[T, float]]]]
    )
    projects: _Turns = field(default_factory=_Turns)
    keys: dict[str, _Turns] = field(default_factory=dict[str, _Turns])

    def __len__(self) -> int:
        return sum(len(queue) for keys in self.waiting.values() for queue in keys.values())

    def put(self, flow: Flow, item: T, tokens: float) -> None:
        """Lets a request wait for its turn."""
        self.waiting.setdefault(flow.project, {}).setdefault(flow.key, deque()).append((item, tokens))

    def take(self, held: Collection[Flow] = ()) -> T:
        """The request whose turn it is; its cost is charged. Flows that are `held` are passed over.

        Raises:
            IndexError: none waits but theirs.
        """
        open = {p: [k for k in keys if Flow(p, k) not in held] for p, keys in self.waiting.items()}
        project = min((p for p, keys in open.items() if keys), key=self.projects.begins, default=None)
        if project is None:
            raise IndexError("no request waits")
        within = self.keys.setdefault(project, _Turns())
        key = min(open[project], key=within.begins)
        item, tokens = self.waiting[project][key].popleft()
        self.projects.charge(project, tokens)
        within.charge(key, tokens)
        self._clear(project, key)
        return item

    def drop(self, flow: Flow, item: T) -> bool:
        """Takes out a request whose client left. Whether it waited."""
        queue = self.waiting.get(flow.project, {}).get(flow.key, deque())
        found = next((entry for entry in queue if entry[0] == item), None)
        if found is None:
            return False
        queue.remove(found)
        self._clear(flow.project, flow.key)
        return True

    def refund(self, flow: Flow, tokens: float) -> None:
        """Gives back what an answer was charged for and did not need."""
        if flow.project in self.projects.times:
            self.projects.times[flow.project] -= tokens
        within = self.keys.get(flow.project)
        if within is not None and flow.key in within.times:
            within.times[flow.key] -= tokens

    def copy(self) -> "FairQueue[T]":
        """One that can be run ahead without changing this one."""
        waiting = {p: {k: deque(queue) for k, queue in keys.items()} for p, keys in self.waiting.items()}
        keys = {p: _Turns(turns.now, dict(turns.times)) for p, turns in self.keys.items()}
        return FairQueue(waiting, _Turns(self.projects.now, dict(self.projects.times)), keys)

    def order(self) -> Iterator[T]:
        """Everything that waits in the order of its turns, if nothing else came; this queue stays as it is."""
        ahead = self.copy()
        while ahead.waiting:
            yield ahead.take()

    def _clear(self, project: str, key: str) -> None:
        if not self.waiting[project][key]:
            del self.waiting[project][key]
        if not self.waiting[project]:
            del self.waiting[project]
        if self.projects.forget(self.waiting):
            known = self.waiting.keys() | self.projects.times.keys()
            self.keys = {name: turns for name, turns in self.keys.items() if name in known}
        if project in self.keys:
            self.keys[project].forget(self.waiting.get(project, {}))
