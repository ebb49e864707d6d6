"""When the watchdog ends Triton: which models no living process works for, and how long it is silent."""

import pytest

from services.serving.triton.watchdog import GRACE_SECONDS, SILENT_SECONDS, abandoned, verdict, without_process

STUB = [
    "/x/triton_python_backend_stub",
    "/r/base-1/model.py",
    "shm",
    "1",
    "1",
    "7",
    "/b",
    "336",
    "base-1_0_0",
    "DEFAULT",
]


def test_a_loading_model_without_a_process_is_abandoned() -> None:
    assert abandoned(["base-1"], []) == ["base-1"]
    assert abandoned(["base-1"], [STUB]) == []
    assert abandoned(["base-1", "base-2"], [STUB]) == ["base-2"]


def test_a_name_that_begins_alike_is_another_model() -> None:
    assert abandoned(["base"], [STUB]) == ["base"]
    assert abandoned(["shop-v1"], [[*STUB[:-2], "shop-v1_0-v2_0_0", "DEFAULT"]]) == ["shop-v1"]


def test_a_model_that_loads_without_a_process_for_too_long_ends_the_server() -> None:
    states = {"base-1": "LOADING", "other": "UNAVAILABLE"}
    alone = without_process(states, [], {}, 100.0)
    assert alone == {"base-1": 100.0}
    assert verdict(alone, 0.0, 100.0 + GRACE_SECONDS) is None
    later = 100.1 + GRACE_SECONDS
    assert "base-1 will never load" in (verdict(without_process(states, [], alone, later), 0.0, later) or "")
    assert without_process(states, [STUB], alone, later) == {}


@pytest.mark.parametrize("state", ["READY", "UNLOADING", "UNAVAILABLE", ""])
def test_a_model_that_does_not_load_ends_nothing(state: str) -> None:
    """The deployer's probe finds a READY one whose process died, and another generation takes its place."""
    assert without_process({"base-1": state}, [], {}, 100.0) == {}


def test_only_a_long_silence_ends_the_server() -> None:
    assert verdict({}, SILENT_SECONDS, 0.0) is None
    assert "answered nothing" in (verdict({}, SILENT_SECONDS + 1, 0.0) or "")
