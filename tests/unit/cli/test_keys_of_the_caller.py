import json
from pathlib import Path

import pytest

from compose.local import API_KEY, stack
from compose.local.settings import StackSettings
from services.cli import api
from services.cli.app import run
from services.cli.errors import Usage


def test_up_refuses_an_address_that_others_reach(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    monkeypatch.setenv("NORIA_HOME", str(tmp_path))
    monkeypatch.setenv("NORIA_HOST", "10.0.0.7")
    monkeypatch.setattr(stack, "start", lambda *_: pytest.fail("it started"))
    assert run(["up", "--detach", "--json"]) == 1
    error = json.loads(capsys.readouterr().out)["error"]
    assert (error["code"], "noria keys create" in error["message"]) == ("keys_needed", True)


def test_services_get_the_file_of_keys_and_not_the_callers_key(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv(API_KEY, "noria_0_x")
    found = stack.environment(StackSettings(home=tmp_path))
    assert API_KEY not in found
    assert "NORIA_API_KEYS" not in found
    assert stack.environment(StackSettings(api_keys=tmp_path / "k"))["NORIA_API_KEYS"] == str(tmp_path / "k")


def test_the_key_is_sent_as_a_bearer(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.delenv(API_KEY, raising=False)
    assert api.authorization() == {}
    monkeypatch.setenv(API_KEY, " noria_0_x\n")
    assert api.authorization() == {"authorization": "Bearer noria_0_x"}
    monkeypatch.setenv(API_KEY, "schlüssel")
    with pytest.raises(Usage, match="NORIA_API_KEY"):
        api.authorization()


def test_a_scope_that_is_none_is_told(capsys: pytest.CaptureFixture[str]) -> None:
    assert run(["keys", "create", "--scope", "everything", "--json"]) == 2
    assert "submit, read, feedback" in json.loads(capsys.readouterr().out)["error"]["message"]
