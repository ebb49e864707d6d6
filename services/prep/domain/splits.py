"""The split a record belongs to: a function of its normalised prompt alone, so that it never changes.

Held-out is the lower end of the unit interval and validation the upper one: a larger part of one takes from train only.
"""

from contracts.canonical import digest
from contracts.project import Prep
from services.prep.domain.rows import Split


def prompt_key(words: tuple[str, ...]) -> str:
    """SHA-256 of a normalised prompt."""
    return digest(" ".join(words))


def split_of(key: str, prep: Prep) -> Split:
    """The split of a prompt key: the key's first 64 bits as a number from 0 to 1 against the splits' shares."""
    place = int(key[:16], 16) / 2**64
    if place < prep.held_out:
        return "held_out"
    return "validation" if place >= 1 - prep.validation else "train"
