from datetime import UTC, datetime

import pytest

from services.chassis.http.application import ApiError
from services.registry import projects
from services.registry.store import SqlStore

NOW = datetime(2026, 1, 31, tzinfo=UTC)


def test_a_rule_for_a_share_of_one_is_refused_with_the_right_value(store: SqlStore):
    with pytest.raises(ApiError, match=r"gate\.require\.0: .*give 'exact_match >= 10'"):
        projects.define(store, {"project": "p", "base": "b", "gate": {"require": ["exact_match >= 0.1"]}}, NOW)
    found, _ = projects.define(store, {"project": "p", "base": "b", "gate": {"require": ["exact_match >= 10"]}}, NOW)
    assert found["changed"]
