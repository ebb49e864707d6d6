"""What records are good for, and which of them a way of training learns from: the one table that all services go by."""

from collections.abc import Mapping

KINDS = (
    "messages", "prompt_completion", "text", "tools", "unpaired_preference", "undesirable", "preference", "prompt_only",
    "stepwise",
)  # fmt: skip
"""Those of contracts/records.py; an unpaired preference whose label is false is `undesirable`. Others come behind these."""

LEARNT: Mapping[str, frozenset[str]] = {
    "sft": frozenset({"messages", "prompt_completion", "text", "tools", "unpaired_preference"})
}
"""`train.method` -> the kinds that it learns from."""


def unusable(method: str, kinds: Mapping[str, int]) -> dict[str, int]:
    """Of so many records of each kind those that `method` learns nothing from."""
    return {kind: n for kind, n in sorted(kinds.items()) if n and kind not in LEARNT[method]}
