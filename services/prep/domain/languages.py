"""The language of a text by its script, and for Latin script by frequent words: an estimate without a model."""

import re

_SCRIPTS: tuple[tuple[str, re.Pattern[str]], ...] = (
    ("ja", re.compile(r"[\u3040-\u30ff]")),
    ("zh", re.compile(r"[\u4e00-\u9fff]")),
    ("ko", re.compile(r"[\uac00-\ud7af]")),
    ("ru or another in Cyrillic", re.compile(r"[\u0400-\u04ff]")),
    ("ar or another in Arabic script", re.compile(r"[\u0600-\u06ff]")),
    ("hi or another in Devanagari", re.compile(r"[\u0900-\u097f]")),
    ("el", re.compile(r"[\u0370-\u03ff]")),
    ("he", re.compile(r"[\u0590-\u05ff]")),
)
_WORDS = """
en the of and to in is that for it with as on be are this from by all an file your you what how
de der die das und ist nicht ein eine zu mit den von auf für dem sich im wie ich es
fr le la les des et est une un pour dans que qui pas sur du au vous avec ce il
es el los las de es una un para en que no por con del se al como lo más
it il di che la per un una in non sono con del della gli è come si le
pt os as de uma um para em que não por com do da se no na mais
nl de het een en van is dat op te niet voor met zijn aan er in je ik om wat
"""
_FREQUENT = {line.split()[0]: frozenset(line.split()[1:]) for line in _WORDS.strip().splitlines()}
_LATIN = re.compile(r"[^\W\d_]+")
UNKNOWN = "unknown"


def detect_language(text: str) -> str:
    """An ISO 639-1 code, or a family of languages, or `unknown`. Reads the first 2,000 characters."""
    start = text[:2000]
    for name, script in _SCRIPTS:
        if len(script.findall(start)) * 4 > len(start):
            return name
    words = set(_LATIN.findall(start.casefold()))
    found = {name: len(words & frequent) for name, frequent in _FREQUENT.items()}
    best = max(found, key=lambda name: found[name])
    runners_up = [n for name, n in found.items() if name != best]
    return best if found[best] > max(runners_up) else UNKNOWN
