"""A system prompt that a base cannot take is refused when the project is applied, where the base's files are at hand."""

from pathlib import Path

import pytest
from pydantic import JsonValue

from services.chassis.http.application import ApiError
from services.registry.projects import check_system_prompt
from tests.lm_bases import make_base


def body(base: str, system: str | None = "Be brief.") -> dict[str, JsonValue]:
    return {"project": "p", "base": base, "prompt": {"system": system}}


@pytest.mark.parametrize(("family", "why"), [("gemma", "System role not supported"), ("gpt2", "no chat template")])
def test_it_is_refused_with_advice(tmp_path: Path, family: str, why: str) -> None:
    make_base(family, tmp_path / "bases" / family)
    with pytest.raises(ApiError, match=why) as refused:
        check_system_prompt(body(family), tmp_path)
    assert (refused.value.status, refused.value.code) == (422, "invalid_project")
    assert "Leave prompt.system out" in str(refused.value)
    check_system_prompt(body(family, None), tmp_path)


def test_a_base_that_takes_it_and_one_that_is_not_at_hand_pass(tmp_path: Path) -> None:
    check_system_prompt(body(str(make_base("smollm2", tmp_path / "own"))), tmp_path)
    check_system_prompt(body("owner/elsewhere"), tmp_path)
