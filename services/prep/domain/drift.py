"""Which figures of two profiles have drifted apart: shares by five points, lengths by a tenth. Two profiles in, rows out."""

from collections.abc import Iterator, Mapping
from typing import Any

POINTS = 0.05
"""Of a share, absolute."""
TENTH = 0.1
"""Of a length, relative to the earlier one."""
LENGTHS = ("mean", "p50", "p95")
Figures = dict[str, tuple[str, float]]
"""Name -> (`share` or `length`, value)."""


def drift(before: Mapping[str, Any], after: Mapping[str, Any]) -> list[dict[str, Any]]:
    """Each figure of either profile: its name, kind, both values, the change, and whether it has drifted.

    A figure that one profile lacks is 0 there where it is a share, and is left out where it is a length.
    """
    old, new = figures(before), figures(after)
    rows: list[dict[str, Any]] = []
    for name in dict.fromkeys((*new, *old)):
        kind = (new.get(name) or old[name])[0]
        if kind == "length" and (name not in old or name not in new):
            continue
        was, now = (found[name][1] if name in found else 0.0 for found in (old, new))
        change = now - was if kind == "share" else _relative(was, now)
        drifted = abs(change) >= (POINTS if kind == "share" else TENTH)
        rows.append({"figure": name, "kind": kind, "before": was, "after": now, "change": change, "drifted": drifted})
    return rows


def figures(profile: Mapping[str, Any]) -> Figures:
    """What is compared of a profile."""
    return dict((*_shares(profile), *_lengths(profile)))


def _shares(profile: Mapping[str, Any]) -> Iterator[tuple[str, tuple[str, float]]]:
    counted: dict[str, Mapping[str, int]] = {
        "split": profile.get("counts", {}),
        "format": profile.get("formats", {}),
        "language": profile.get("languages", {}).get("found", {}),
        **{f"tag {tag}": values for tag, values in profile.get("tags", {}).items()},
    }
    for title, values in counted.items():
        total = sum(values.values()) or 1
        for name, count in values.items():
            yield f"{title}: {name}", ("share", round(count / total, 6))
    for reason, found in profile.get("drops", {}).items():
        yield f"left out: {reason}", ("share", round(found["n"] / max(1, profile["records"]), 6))


def _lengths(profile: Mapping[str, Any]) -> Iterator[tuple[str, tuple[str, float]]]:
    for unit in ("characters", "tokens"):
        for part in ("prompt", "completion"):
            spread = profile.get(unit, {}).get(part, {})
            for name in LENGTHS:
                if name in spread:
                    yield f"{unit} of the {part}, {name}", ("length", float(spread[name]))


def _relative(was: float, now: float) -> float:
    if was == now:
        return 0.0
    return round((now - was) / was, 6) if was else 1.0
