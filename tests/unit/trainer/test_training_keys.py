from types import SimpleNamespace
from typing import Any

import pytest

from services.chassis.http.application import ApiError
from services.chassis.http.guard import Caller
from services.trainer import http

RUN: Any = SimpleNamespace(run=lambda _: SimpleNamespace(project="bank"), jobs=SimpleNamespace(cancel=None, get=None))


@pytest.mark.parametrize("ask", [http.shown, http.cancelled, http.retried])
def test_a_run_is_for_keys_of_its_project(ask: Any) -> None:
    with pytest.raises(ApiError, match="bank") as caught:
        ask(RUN, "run-1", Caller("k", frozenset({"read"}), frozenset({"shop"})))
    assert caught.value.status == 403
