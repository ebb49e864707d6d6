"""Topics of texts: clusters of their vectors, with the words that are typical of each. Knows no embedder and no file.

Clusters by k-means on the unit sphere (Dhillon & Modha 2001, https://doi.org/10.1023/A:1007612920971) begun as k-means++ has it
(Arthur & Vassilvitskii 2007); words by c-TF-IDF (Grootendorst 2022, https://arxiv.org/abs/2203.05794). The same vectors give the
same clusters: the seed is fixed.
"""

import math
from collections import Counter
from collections.abc import Sequence
from dataclasses import dataclass

import numpy as np
from numpy.typing import NDArray

from services.prep.domain import normalise

Vectors = NDArray[np.float32]
"""[texts, dimensions], each of length one."""
FEWEST = 50
"""Texts that make topics."""
MOST_TOPICS = 10
WORDS = 8
ROUNDS, STARTS, SEED = 30, 4, 7


@dataclass(frozen=True, slots=True)
class Clusters:
    """`of` a text its cluster, and its `distance` (1 - cosine) to the cluster's centre."""

    of: NDArray[np.int64]
    distance: NDArray[np.float32]


def how_many(texts: int) -> int:
    """Clusters for a number of texts: the root of half of them, at most MOST_TOPICS."""
    return max(2, min(MOST_TOPICS, round(math.sqrt(texts / 2))))


def clusters(vectors: Vectors, k: int) -> Clusters:
    """K clusters, the best of STARTS beginnings, the largest first."""
    random = np.random.default_rng(SEED)
    tries = [_lloyd(vectors, _beginning(vectors, k, random)) for _ in range(STARTS)]
    best = min(tries, key=lambda found: round(float(found.distance.sum()), 4))
    sizes = np.bincount(best.of, minlength=k)
    firsts = [int(np.argmax(best.of == one)) if sizes[one] else len(vectors) for one in range(k)]
    order = sorted(range(k), key=lambda one: (-sizes[one], firsts[one]))
    rank = np.argsort(np.array(order))
    return Clusters(rank[best.of].astype(np.int64), best.distance)


def _beginning(vectors: Vectors, k: int, random: np.random.Generator) -> Vectors:
    chosen = [int(random.integers(len(vectors)))]
    while len(chosen) < k:
        apart = np.clip(1 - (vectors @ vectors[chosen].T).max(axis=1), 0, None).astype(np.float64)
        total = float(apart.sum())
        share = apart / total if total > 0 else np.full(len(vectors), 1 / len(vectors))
        chosen.append(int(random.choice(len(vectors), p=share)))
    return vectors[chosen]


def _lloyd(vectors: Vectors, centres: Vectors) -> Clusters:
    of = np.full(len(vectors), -1)
    for _ in range(ROUNDS):
        likeness = vectors @ centres.T
        now = likeness.argmax(axis=1)
        if (now == of).all():
            break
        of = now
        sums = np.stack([vectors[of == one].sum(axis=0) for one in range(len(centres))])
        lengths = np.linalg.norm(sums, axis=1, keepdims=True)
        centres = np.where(lengths > 0, sums / np.maximum(lengths, 1e-12), centres).astype(np.float32)
    likeness = vectors @ centres.T
    of = likeness.argmax(axis=1)
    return Clusters(of.astype(np.int64), (1 - likeness[np.arange(len(of)), of]).astype(np.float32))


def typical_words(texts: Sequence[str], of: Sequence[int], k: int) -> list[list[str]]:
    """The WORDS words of each cluster with the greatest c-TF-IDF: tf * log(1 + A / f), A the mean words of a cluster.

    A word of most clusters is typical of none.
    """
    counts = [Counter[str]() for _ in range(k)]
    within: Counter[str] = Counter()
    for text, one in zip(texts, of, strict=True):
        found = [word for word in normalise.words(text) if len(word) > 2 and not word.isdecimal()]
        counts[one].update(found)
        within.update(set(found))
    total = sum(counts, Counter[str]())
    mean = total.total() / k
    repeated = {word for word, n in within.items() if n > 1}
    everywhere = {word for word in total if sum(word in cluster for cluster in counts) > max(2, k / 2)}
    weights = [
        {
            word: n / cluster.total() * math.log(1 + mean / total[word])
            for word, n in cluster.items()
            if word not in everywhere
        }
        for cluster in counts
    ]
    return [_heaviest(each, repeated) for each in weights]


def _heaviest(weights: dict[str, float], repeated: set[str]) -> list[str]:
    """Words of one text alone only where there are no others."""
    return sorted(weights, key=lambda word: (word not in repeated, -round(weights[word], 9), word))[:WORDS]
