"""Texts in normal form: when two questions or two answers are the same, or nearly so. Pure."""

import re
import unicodedata
from hashlib import sha256

from contracts.canonical import canonical
from contracts.records import RecordInvalid
from contracts.turns import conversation
from services.feedback.domain.records import Request

NEARLY = 0.8
"""Two answers whose sets of words have this Jaccard similarity are nearly the same."""
SKETCH = 64
"""Words of a sketch."""


def answer_digest(text: str) -> str:
    """Digest of an answer without regard to white space and Unicode's ways of writing; case counts, as in `tar -c`, `-C`."""
    return _digest(" ".join(unicodedata.normalize("NFKC", text).split()))


def question_digest(request: Request) -> str:
    """Digest of all that was said before the answer but the instruction, without regard to case, space and last stop."""
    return _digest("\x1f".join(_plain(turn) for turn in _turns(request)))


def user_digest(project: str, user: str | None) -> str | None:
    """A user under a name that tells nobody who it is, another one in each project; None where nobody was named."""
    return None if user is None else _digest(f"{project}\x00{user}")[:16]


def sketch(text: str) -> tuple[str, ...]:
    """The SKETCH words with the smallest digests, as digests in order: a bottom-k sketch of the set of words.

    Source: A. Broder, On the resemblance and containment of documents, 1997.
    """
    return tuple(sorted({_digest(word)[:8] for word in set(re.findall(r"\w+", text.casefold()))})[:SKETCH])


def nearly_same(one: tuple[str, ...], other: tuple[str, ...]) -> bool:
    """Whether two sketches are of sets with a Jaccard similarity of NEARLY or more: exact up to SKETCH words in both."""
    both = sorted({*one, *other})[:SKETCH]
    return len(set(one) & set(other) & set(both)) >= NEARLY * len(both)


def _turns(request: Request) -> list[str]:
    if request.messages is None:
        return [f"user {request.prompt or ''}"]
    try:
        turns = conversation(list(request.messages), "messages")
    except RecordInvalid:  # no record comes of it; what is said of it is weighed together all the same
        return [canonical([dict(turn) for turn in request.messages])]
    return [f"{turn['role']} {turn['content']}" for turn in turns if turn["role"] != "system"]


def _plain(text: str) -> str:
    return " ".join(unicodedata.normalize("NFKC", text).casefold().split()).rstrip(" .?!")


def _digest(text: str) -> str:
    return sha256(text.encode("utf-8", "surrogatepass")).hexdigest()[:32]
