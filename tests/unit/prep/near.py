"""Which prompts are near, by brute force and in the plainest way: what the search is held against."""

from collections import Counter
from collections.abc import Mapping
from itertools import combinations

from services.prep.domain.near.templates import MANY, RUN


def are_near(a: frozenset[str], b: frozenset[str]) -> bool:
    return 5 * len(a & b) >= 4 * len(a | b)


def own(prompts: Mapping[str, str]) -> dict[str, frozenset[str]]:
    """The words of each prompt outside of runs that many different prompts share."""
    words = {name: prompt.split(" ") for name, prompt in prompts.items()}
    distinct = {prompt: prompt.split(" ") for prompt in prompts.values()}.values()
    counts = Counter(
        run for found in distinct for run in {tuple(found[i : i + RUN]) for i in range(len(found) - RUN + 1)}
    )
    result: dict[str, frozenset[str]] = {}
    for name, found in words.items():
        starts = [i for i in range(len(found) - RUN + 1) if counts[tuple(found[i : i + RUN])] >= MANY]
        shared = {i + k for i in starts for k in range(RUN)}
        result[name] = frozenset(word for i, word in enumerate(found) if i not in shared)
    return result


def pairs(prompts: Mapping[str, str]) -> set[frozenset[str]]:
    """The pairs of names whose prompts are near."""
    sets, rest = {name: frozenset(prompt.split(" ")) for name, prompt in prompts.items()}, own(prompts)
    return {
        frozenset((a, b))
        for a, b in combinations(prompts, 2)
        if are_near(sets[a], sets[b]) and are_near(rest[a], rest[b])
    }
