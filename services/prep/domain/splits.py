"""The side a record stands on: a function of its normalised prompt alone, so that it never changes sides.

Held-out is the lower end of the unit interval and validation the upper one: a larger part of one takes from train only.
"""

from contracts.project import Prep
from services.prep.domain.rows import Side, digest


def prompt_key(words: tuple[str, ...]) -> str:
    """SHA-256 of a normalised prompt."""
    return digest(" ".join(words))


def side(key: str, prep: Prep) -> Side:
    """The side of a prompt key: the key's first 64 bits as a number from 0 to 1 against the parts' shares."""
    place = int(key[:16], 16) / 2**64
    if place < prep.held_out:
        return "held_out"
    return "validation" if place >= 1 - prep.validation else "train"
