from typing import Any

import pytest

from services.prep.domain.drift import drift


def profile(train: int, median: int) -> dict[str, Any]:
    return {
        "records": 100,
        "counts": {"train": train, "held_out": 100 - train},
        "tags": {"tool": {"tar": train}},
        "drops": {"duplicate": {"n": 100 - train}},
        "characters": {"prompt": {"n": 100, "p50": median}},
    }


@pytest.mark.parametrize(
    ("before", "after", "drifted"),
    [
        (profile(80, 100), profile(84, 109), set[str]()),
        (profile(80, 100), profile(86, 100), {"split: train", "split: held_out", "left out: duplicate"}),
        (profile(80, 100), profile(80, 112), {"characters of the prompt, p50"}),
        (profile(80, 100), profile(80, 100) | {"tags": {"lang": {"en": 1}}}, {"tag lang: en", "tag tool: tar"}),
    ],
)
def test_figures_drift_by_points_and_tenths(before: Any, after: Any, drifted: set[str]) -> None:
    assert {row["figure"] for row in drift(before, after) if row["drifted"]} == drifted
    assert {row["figure"] for row in drift(after, before) if row["drifted"]} == drifted


def test_profiles_of_other_times_are_compared_by_what_both_have() -> None:
    rows = drift({}, profile(80, 100))
    assert {row["figure"] for row in rows if row["before"]} == set()
    assert not [row for row in rows if row["kind"] == "length"]
