"""Which loading models no living process works for."""

from services.serving.triton.watchdog import abandoned

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
