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


@pytest.mark.parametrize("state", ["LOADING", "READY"])
def test_a_model_that_lacks_its_process_for_too_long_ends_the_server(state: str) -> None:
    states = {"base-1": state, "other": "UNAVAILABLE"}
    alone = without_process(states, [], {}, 100.0)
    assert alone == {"base-1": 100.0}
    assert verdict(states, alone, 0.0, 100.0 + GRACE_SECONDS[state]) is None
    later = 100.1 + GRACE_SECONDS[state]
    assert "base-1 will never answer" in (verdict(states, without_process(states, [], alone, later), 0.0, later) or "")
    assert without_process(states, [STUB], alone, later) == {}


def test_a_model_that_needs_no_process_ends_nothing() -> None:
    assert without_process({"base-1": "UNAVAILABLE", "base-2": "UNLOADING", "base-3": ""}, [], {}, 100.0) == {}


def test_a_ready_model_whose_process_died_beside_living_ones_is_left_to_the_deployer() -> None:
    assert without_process({"base-1": "READY", "base-2": "READY"}, [STUB], {}, 100.0) == {}


def test_only_a_long_silence_ends_the_server() -> None:
    assert verdict({}, {}, SILENT_SECONDS, 0.0) is None
    assert "answered nothing" in (verdict({}, {}, SILENT_SECONDS + 1, 0.0) or "")
