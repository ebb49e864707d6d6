"""What flows through the pipeline: an accepted record as it lies in the store, and the row made of it. Decides nothing."""

from dataclasses import dataclass
from typing import Literal

Split = Literal["train", "validation", "held_out"]
SPLITS: tuple[Split, ...] = ("train", "validation", "held_out")
DROPS = "drops"
"""The name of the file beside the splits that holds what was left out."""


@dataclass(frozen=True, slots=True)
class Accepted:
    """An accepted record's newest revision; `record` and `tags` are JSON texts."""

    record_id: str
    revision: int
    format: str
    record: str
    tags: str
    subject: str | None


@dataclass(frozen=True, slots=True)
class Row:
    """A record as it was submitted with what the steps decide by.

    `record` is canonical JSON with every text as it was sent, `digest` its digest; `prompt` and `completion` are texts as
    sent too. What records are compared by comes from normalised copies: `content` is the digest of what is learnt (the same for
    one content in two formats), `words` are the prompt's, `prompt_key` their digest and `split` a function of that alone.
    """

    record_id: str
    revision: int
    format: str
    kind: str
    record: str
    digest: str
    content: str
    prompt_key: str
    split: Split
    words: tuple[str, ...]
    prompt: str
    completion: str
    tags: str
    subject: str | None


@dataclass(frozen=True, slots=True)
class Drop:
    """A record that is left out, and why; `because_of` names the record it repeats."""

    record_id: str
    reason: str
    because_of: str | None = None
