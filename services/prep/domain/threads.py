"""Work on batches in other threads, while the results of earlier ones are taken in. For work that leaves the interpreter."""

from collections import deque
from collections.abc import Callable, Iterable, Iterator
from concurrent.futures import Future, ThreadPoolExecutor
from typing import TypeVar

WORKERS = 2
A = TypeVar("A")
B = TypeVar("B")


def ahead(function: Callable[[A], B], batches: Iterable[A]) -> Iterator[B]:
    """The results in the order of the batches; at most one more than `WORKERS` are held."""
    waiting: deque[Future[B]] = deque()
    with ThreadPoolExecutor(WORKERS) as pool:
        for batch in batches:
            waiting.append(pool.submit(function, batch))
            if len(waiting) > WORKERS:
                yield waiting.popleft().result()
        while waiting:
            yield waiting.popleft().result()
