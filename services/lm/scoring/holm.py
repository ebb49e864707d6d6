"""Holm's procedure: p of several tests, adjusted so that all of them together keep one level. Knows no test."""

from collections.abc import Hashable, Mapping
from typing import TypeVar

K = TypeVar("K", bound=Hashable)


def holm(p: Mapping[K, float]) -> dict[K, float]:
    """Adjusted p: each is at most the family's level where Holm's procedure lets its test reject, however they depend.

    Source: Holm, "A simple sequentially rejective multiple test procedure", Scandinavian Journal of Statistics 6, 1979.
    """
    found: dict[K, float] = {}
    largest = 0.0
    for index, name in enumerate(sorted(p, key=lambda k: (p[k], str(k)))):
        largest = found[name] = max(largest, min(1.0, (len(p) - index) * p[name]))
    return found
