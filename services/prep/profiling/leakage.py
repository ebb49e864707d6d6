"""How much of what is judged on stands in what is trained on, by n-grams of words. Texts in, figures out.

As the reports of GPT-3 (https://arxiv.org/abs/2005.14165, C) and Llama 2 (https://arxiv.org/abs/2307.09288, A.6) have it: a row
is held for overlapping where most of its n-grams are among the training's.
"""

from collections import Counter
from collections.abc import Iterable, Iterator, Mapping, Sequence
from typing import Any

from services.prep.domain import normalise
from services.prep.profiling.texts import Sampled

N = 8
"""Words of an n-gram."""
OVERLAPPING = 0.5
EXAMPLES = 5
MOST_WORDS = 1_000
"""Of a text that are looked at."""


def grams(trained: Iterable[Sampled]) -> dict[int, str]:
    """Each n-gram of the rows, and the first row that has it."""
    seen: dict[int, str] = {}
    for row in trained:
        for gram in _grams(row):
            seen.setdefault(gram, row.record_id)
    return seen


def leakage(seen: Mapping[int, str], judged: Sequence[Sampled]) -> dict[str, Any]:
    """Of the judged rows with N words or more: how many overlap with the trained ones, by what share, and the worst of them.

    `seen` are the trained rows' `grams`; an example's `trained` is the one of them that has most of its n-grams.
    """
    shares: list[tuple[float, str, str]] = []
    for row in judged:
        own = list(_grams(row))
        if own:
            at = Counter(seen[gram] for gram in own if gram in seen)
            most = min(at, key=lambda id: (-at[id], id), default="")
            shares.append((at.total() / len(own), row.record_id, most))
    worst = sorted((s for s in shares if s[0] > 0), key=lambda found: (-found[0], found[1]))[:EXAMPLES]
    return {
        "ngram": N,
        "sampled": len(judged),
        "compared": len(shares),
        "sharing": sum(share > 0 for share, *_ in shares),
        "overlapping": sum(share >= OVERLAPPING for share, *_ in shares),
        "mean_share": round(sum(share for share, *_ in shares) / len(shares), 4) if shares else 0.0,
        "examples": [{"record_id": id, "share": round(share, 4), "trained": most} for share, id, most in worst],
    }


def _grams(row: Sampled) -> Iterator[int]:
    """Hashes of the n-grams of prompt and completion. A process's own: they are compared, never written."""
    for text in (row.prompt, row.completion):
        words = normalise.words(text)[:MOST_WORDS]
        for at in range(len(words) - N + 1):
            yield hash(words[at : at + N])
