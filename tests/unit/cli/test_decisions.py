"""What a person decides reaches the registry as they said it, and `noria models` shows wanted and served apart."""

import json
from typing import Any

import pytest

from services.cli.app import run
from services.cli.verbs.lists import stage
from tests.unit.cli.conftest import Services


def test_rollback_names_its_version_and_the_base_by_its_word(services: Services, capsys: pytest.CaptureFixture[str]):
    services.say("POST", "/v1/models/shop/rollback", (200, {"name": "shop", "version": 0}))
    assert run(["rollback", "shop", "--to", "0", "--by", "ada"]) == 0
    assert "shop@base is wanted in production again" in capsys.readouterr().out
    assert json.loads(services.asked[-1][2]) == {"by": "ada", "reason": "", "to": 0}


def test_reject_says_why(services: Services):
    services.say("POST", "/v1/models/shop/2/reject", (200, {"stage": "rejected"}))
    assert run(["reject", "shop@2", "--by", "ada", "--reason", "no rows", "--json"]) == 0
    assert json.loads(services.asked[-1][2]) == {"by": "ada", "reason": "no rows"}


def test_retire_asks_first_and_yes_does_not(
    services: Services, capsys: pytest.CaptureFixture[str], monkeypatch: pytest.MonkeyPatch
):
    services.say("POST", "/v1/projects/shop/retire", (200, {"changed": True}))
    monkeypatch.setattr("typer.confirm", lambda *_, **__: False)
    assert run(["retire", "shop"]) == 2
    assert services.asked == []
    assert "stays in service" in capsys.readouterr().err
    assert run(["retire", "shop", "--yes", "--by", "ada"]) == 0
    assert "shop is out of service" in capsys.readouterr().out
    assert json.loads(services.asked[-1][2]) == {"by": "ada", "reason": ""}


@pytest.mark.parametrize(
    ("row", "shown"),
    [
        ({"stage": "candidate"}, "candidate"),
        ({"stage": "production", "deployment": {"status": "deployed", "detail": ""}}, "production"),
        ({"stage": "production", "deployment": {"status": "pending", "detail": ""}}, "production, deployment pending"),
        (
            {"stage": "production", "deployment": {"status": "failed", "detail": "disk full"}},
            "production, deployment failed: disk full",
        ),
        ({"stage": "archived", "deployment": {"status": "removed", "detail": ""}}, "archived"),
    ],
)
def test_a_stage_says_both_what_is_wanted_and_what_is(row: dict[str, Any], shown: str):
    assert stage(row) == shown
