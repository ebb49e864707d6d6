"""A dataset's profile as plain data, from files alone, its own and those of datasets that it is held against. Draws nothing.

The same files have the same profile.

What costs by the text is measured on even samples, and says on how many rows.
"""

import re
from collections import Counter
from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import Any

import pyarrow as pa
import pyarrow.parquet as pq

from contracts.placeholders import HIDDEN, HIDDEN_BY_OTHERS
from services.prep.domain import languages, pii, quality
from services.prep.domain.frame import CountTokens
from services.prep.domain.rows import DROPS, SPLITS
from services.prep.profiling import leakage, repeats, sources, texts, topics
from services.prep.profiling.embedder import NAME, TOKENS_A_TEXT, EmbedTexts
from services.prep.profiling.figures import TOP, evenly, excerpt, spread, top
from services.prep.profiling.texts import Sampled

Profile = dict[str, Any]
EXAMPLES = 5
OUTLIERS = 5
BRIEF = 200
TOKENISED = 5_000
"""Rows of the sample whose tokens are counted and whose language is told."""
SEARCHED = 2_000
"""Rows of the sample that are searched for secrets and personal data, 0.3 ms each, and held against the rules of quality."""
JUDGED = 2_000
"""Rows of each split that are compared with the training's."""
PLACEHOLDER = re.compile(rf"<({'|'.join(sorted({*HIDDEN, *HIDDEN_BY_OTHERS}))})(?:_\d+)?>")
"""What redaction leaves in a text: <EMAIL_ADDRESS>, <PERSON_2>."""


def profile(
    files: Mapping[str, Path],
    version: str,
    count_tokens: CountTokens,
    unit: str,
    sample: int,
    embed: EmbedTexts | None = None,
    against: Mapping[str, Mapping[str, Path]] | None = None,
) -> Profile:
    """The profile of a dataset by its splits and drops. `unit` says what a token is; texts are read of at most `sample` rows.

    `against`: other datasets by name, their splits' files; what stands of them in training is told.
    """
    counts = {split: pq.read_metadata(files[split]).num_rows for split in SPLITS}
    total = sum(counts.values())
    some = texts.sample(files, SPLITS, sample)
    fewer = evenly(some, TOKENISED)
    tags = _tags(texts.tags(files, SPLITS))
    left_out = repeats.drops(files[DROPS])
    return {
        "version": version,
        "records": total + pq.read_metadata(files[DROPS]).num_rows,
        "rows": total,
        "sampled": len(some),
        "counts": counts,
        "formats": top(texts.counted(files, SPLITS, "format")),
        "kinds": top(Counter(row.kind for row in some)),
        "tags": tags,
        "prompts": {"distinct": texts.distinct(files, SPLITS, "prompt_key"), "of": total},
        "sources": sources.over_time(files, SPLITS, list(tags)),
        "characters": _lengths(some, lambda given: [len(text) for text in given]),
        "tokens": {"unit": unit, "sampled": len(fewer), **_lengths(fewer, count_tokens)},
        "languages": {
            "detected_by": languages.BY,
            "sampled": len(fewer),
            "found": top(Counter(languages.known(languages.guess(row.prompt, row.completion)) for row in fewer)),
        },
        "preferences": preferences(some),
        "placeholders": top(Counter(kind for row in some for kind in placeholders(row))),
        "pii": _pii(evenly(some, SEARCHED)),
        "quality": _quality(evenly(some, SEARCHED)),
        "drops": left_out,
        "repeats": repeats.repeats(files, SPLITS),
        "leakage": _leakage(some, against or {}),
        "topics": _topics(some, embed),
        "longest": [_told(row, characters=_size(row)) for row in sorted(some, key=_longest_first)[:OUTLIERS]],
        "examples": {split: [_example(row) for row in some if row.split == split][:EXAMPLES] for split in SPLITS},
    }


def _lengths(some: Sequence[Sampled], measure: CountTokens) -> dict[str, Any]:
    return {
        "prompt": spread(measure([row.prompt for row in some])),
        "completion": spread(measure([row.completion for row in some])),
    }


def _tags(found: Mapping[str, Counter[str]]) -> dict[str, dict[str, int]]:
    """Rows by value of each tag, the tags that most rows have first."""
    ordered = sorted(found, key=lambda name: (-found[name].total(), name))
    return {name: top(found[name]) for name in ordered[:TOP]}


def preferences(some: Sequence[Sampled]) -> dict[str, Any]:
    """Of pairs how long the chosen is for a rejected of 100 characters; of labelled rows how many are desirable."""
    pairs = [row for row in some if row.rejected is not None]
    ratios = [round(100 * len(row.completion) / max(1, len(row.rejected or ""))) for row in pairs]
    labels = Counter("desirable" if row.label else "undesirable" for row in some if row.label is not None)
    longer = sum(len(row.completion) > len(row.rejected or "") for row in pairs)
    return {
        "pairs": len(pairs),
        "chosen_longer": longer,
        "percent": spread(ratios),
        "labels": dict(sorted(labels.items())),
    }


def placeholders(row: Sampled) -> set[str]:
    """The kinds of redacted places in a row."""
    return set(PLACEHOLDER.findall(row.prompt)) | set(PLACEHOLDER.findall(row.completion))


def _pii(some: Sequence[Sampled]) -> dict[str, Any]:
    """Rows by the kinds of secrets and personal data that they hold, as the step `pii` finds them."""
    kinds = Counter(kind for row in some for kind in pii.kinds_in([row.prompt, row.completion, row.rejected or ""]))
    return {"sampled": len(some), "found": top(kinds)}


def _quality(some: Sequence[Sampled]) -> dict[str, Any]:
    """Rows by the rules that their completion breaks, as the step `quality` finds them; those that none breaks are left out."""
    completions = pa.array([row.completion for row in some], pa.string())
    broken = {name: int(rule(completions).sum()) for name, rule in quality.RULES.items()} if some else {}
    return {"sampled": len(some), "found": top(Counter({name: n for name, n in broken.items() if n}))}


def _leakage(some: Sequence[Sampled], against: Mapping[str, Mapping[str, Path]]) -> dict[str, Any]:
    trained = [row for row in some if row.split == "train"]
    seen = leakage.grams(trained)
    judged = {split: evenly([row for row in some if row.split == split], JUDGED) for split in SPLITS[1:]}
    return {
        "trained": len(trained),
        **{split: leakage.leakage(seen, rows) for split, rows in judged.items()},
        "against": {
            name: leakage.leakage(seen, evenly(texts.sample(files, SPLITS, JUDGED), JUDGED))
            for name, files in sorted(against.items())
        },
    }


def _topics(some: Sequence[Sampled], embed: EmbedTexts | None) -> dict[str, Any]:
    """Topics by the vectors of prompts, of rows without one by the completion's, and what lies far from all of them."""
    if embed is None:
        return {"missing": "the embedder is switched off or not on this machine"}
    if len(some) < topics.FEWEST:
        return {"missing": f"fewer than {topics.FEWEST} rows make no topics"}
    try:
        places, vectors = embed([row.prompt or row.completion for row in some])
    except Exception as fault:  # a damaged file of the embedder costs a dataset its topics, not itself
        return {"missing": f"the embedder failed: {type(fault).__name__}"}
    if len(places) < topics.FEWEST:
        return {"missing": f"fewer than {topics.FEWEST} texts are within the bound of tokens"}
    rows = [some[place] for place in places]
    k = topics.how_many(len(rows))
    found = topics.clusters(vectors, k)
    words = topics.typical_words([row.prompt or row.completion for row in rows], found.of.tolist(), k)
    far = sorted(range(len(rows)), key=lambda i: (-round(float(found.distance[i]), 3), rows[i].record_id))[:OUTLIERS]
    return {
        "embedded_by": NAME,
        "sampled": len(rows),
        "tokens_a_text": TOKENS_A_TEXT,
        "found": [_topic(rows, found, words[one], one) for one in range(k) if (found.of == one).any()],
        "outliers": [_told(rows[i], distance=round(float(found.distance[i]), 3)) for i in far],
    }


def _topic(rows: Sequence[Sampled], found: topics.Clusters, words: Sequence[str], one: int) -> dict[str, Any]:
    own = [i for i in range(len(rows)) if found.of[i] == one]
    nearest = min(own, key=lambda i: (round(float(found.distance[i]), 3), rows[i].record_id))
    return {"words": list(words), "n": len(own), "example": _told(rows[nearest])}


def _size(row: Sampled) -> int:
    return len(row.prompt) + len(row.completion)


def _longest_first(row: Sampled) -> tuple[int, str]:
    return -_size(row), row.record_id


def _told(row: Sampled, **figures: float) -> dict[str, Any]:
    text = excerpt(row.prompt or row.completion, BRIEF)
    return {"record_id": row.record_id, "split": row.split, "text": text, **figures}


def _example(row: Sampled) -> dict[str, str]:
    """A row as a person reads it."""
    return {
        "record_id": row.record_id,
        "format": row.format,
        "prompt": excerpt(row.prompt),
        "completion": excerpt(row.completion),
    }
