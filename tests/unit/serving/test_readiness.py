"""When a gateway takes requests."""

import asyncio

from services.serving.domain.reconcile import Loaded
from services.serving.domain.routing import build
from services.serving.runtime import Runtime, triton_check
from services.serving.settings import ServingSettings
from tests.unit.serving.builders import target


def check(**changes: object) -> str | None:
    runtime = Runtime(ServingSettings())
    runtime.routes, runtime.up = build([target()], {"shop": 1}, ["shop"]), True
    for name, value in changes.items():
        setattr(runtime, name, value)
    return asyncio.run(triton_check(runtime))


def test_a_gateway_is_ready_while_what_projects_need_answers() -> None:
    loaded = {target().triton_model: Loaded()}
    assert check(loaded=loaded) is None
    assert "does not answer" in str(check(loaded=loaded, up=False))
    assert check() == f"{target().triton_model}: is being loaded"
    assert check(faults={target().triton_model: "no memory"}) == f"{target().triton_model}: no memory"


def test_a_new_model_that_cannot_be_loaded_takes_no_gateway_from_the_others() -> None:
    assert check(loaded={target().triton_model: Loaded()}, faults={"shop-v2": "cannot be read"}) is None
