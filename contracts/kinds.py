"""What records are good for, and which of them a way of training learns from: the one table that all services go by."""

from collections.abc import Mapping
from typing import get_args

from contracts.records import Kind

KINDS = (*(kind for part in get_args(Kind) for kind in get_args(part)), "undesirable")
"""Those of contracts/records.py; an unpaired preference whose label is false is `undesirable`."""

LEARNT: Mapping[str, frozenset[str]] = {
    "sft": frozenset({"messages", "prompt_completion", "text", "tools", "unpaired_preference"})
}
"""`train.method` -> the kinds that it learns from."""


def unusable(method: str, kinds: Mapping[str, int]) -> dict[str, int]:
    """Of so many records of each kind those that `method` learns nothing from."""
    return {kind: n for kind, n in sorted(kinds.items()) if n and kind not in LEARNT[method]}
