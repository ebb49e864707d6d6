from types import SimpleNamespace
from typing import Any

import pytest

from services.chassis.http.application import ApiError
from services.chassis.http.guard import Caller
from services.feedback.http import check

STORE: Any = SimpleNamespace(request={"r1": SimpleNamespace(project="shop")}.get)


def given(request_id: str, *projects: str) -> tuple[int, str]:
    who = Caller("k", frozenset({"feedback"}), frozenset(projects) if projects else None)
    try:
        check(STORE, request_id, who)
    except ApiError as error:
        return error.status, error.code
    return 202, ""


@pytest.mark.parametrize(
    ("request_id", "projects", "status"),
    [
        ("r1", (), 202),
        ("r2", (), 202),
        ("r1", ("bank", "shop"), 202),
        ("r1", ("bank",), 403),
        ("r2", ("shop",), 409),
    ],
)
def test_feedback_is_for_requests_of_the_keys_projects(request_id: str, projects: tuple[str, ...], status: int) -> None:
    assert given(request_id, *projects)[0] == status
