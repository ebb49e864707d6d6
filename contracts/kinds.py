"""What records are good for, and which of them a way of training learns from: the one table that all services go by."""

from collections.abc import Iterable, Mapping
from typing import get_args

from contracts.records import Kind

KINDS = (*(kind for part in get_args(Kind) for kind in get_args(part)), "undesirable")
"""Those of contracts/records.py; an unpaired preference whose label is false is `undesirable`."""

_SUPERVISED = frozenset({"messages", "prompt_completion", "text", "tools"})
LEARNT: Mapping[str, frozenset[str]] = {
    "sft": _SUPERVISED | {"unpaired_preference"},
    "dpo": _SUPERVISED | {"unpaired_preference", "preference"},
    "kto": _SUPERVISED | {"unpaired_preference", "undesirable", "preference"},
    "orpo": _SUPERVISED | {"unpaired_preference", "preference"},
}
"""A method of `train` -> the kinds that it learns from; beside preferences those that are replayed as rows of sft."""

NEEDED: Mapping[str, tuple[frozenset[str], ...]] = {
    "sft": (LEARNT["sft"],),
    "dpo": (frozenset({"preference"}),),
    "kto": (frozenset({"unpaired_preference", "preference"}), frozenset({"undesirable", "preference"})),
    "orpo": (frozenset({"preference"}),),
}
"""A method of `train` -> of each of these at least one kind; without it the method has nothing to learn, whatever it replays."""


def lacking(methods: Iterable[str], kinds: Mapping[str, int]) -> dict[str, list[str]]:
    """The `methods` that have nothing to learn from so many records of each kind, and the kinds of which one is missing."""
    missing = {
        method: sorted(
            {kind for wanted in NEEDED.get(method, ()) if not any(map(kinds.get, wanted)) for kind in wanted}
        )
        for method in methods
    }
    return {method: wanted for method, wanted in missing.items() if wanted}


def unusable(methods: Iterable[str], kinds: Mapping[str, int]) -> dict[str, int]:
    """Of so many records of each kind those that none of the `methods` learns from."""
    learnt = {kind for method in methods for kind in LEARNT.get(method, ())}
    return {kind: n for kind, n in sorted(kinds.items()) if n and kind not in learnt}
