"""The service's own variable goes over the common one, the environment over `.env`, an argument over all."""

from pathlib import Path
from typing import ClassVar

import pytest

from services.chassis.settings import Settings, service_settings


class PrepSettings(Settings):
    SERVICE: ClassVar[str] = "prep"

    port: int = 8082


@pytest.fixture(autouse=True)
def _elsewhere(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.chdir(tmp_path)
    for name in ("NORIA_HOME", "NORIA_PORT", "NORIA_DATABASE", "NORIA_KAFKA_BOOTSTRAP"):
        monkeypatch.delenv(name, raising=False)


def test_defaults_need_nothing(tmp_path: Path) -> None:
    settings = PrepSettings()
    assert settings.home == tmp_path / ".noria"
    assert settings.database_url == f"sqlite:///{tmp_path}/.noria/state/prep.db"
    assert settings.artifact_root == f"file://{tmp_path}/.noria/artifacts"
    assert (settings.port, settings.group, settings.source) == (8082, "prep.main", "/noria/prep")


def test_order_of_sources(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    (tmp_path / ".env").write_text("NORIA_LOG_LEVEL=debug\nNORIA_PREP_KAFKA_BOOTSTRAP=file:1\n")
    assert PrepSettings().log_level == "debug"
    assert PrepSettings().kafka_bootstrap == "file:1"
    monkeypatch.setenv("NORIA_KAFKA_BOOTSTRAP", "common:1")
    assert PrepSettings().kafka_bootstrap == "common:1"
    monkeypatch.setenv("NORIA_PREP_KAFKA_BOOTSTRAP", "own:1")
    assert PrepSettings().kafka_bootstrap == "own:1"
    assert PrepSettings(kafka_bootstrap="argument:1").kafka_bootstrap == "argument:1"


def test_environment_brings_what_was_set_to_a_child(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    settings = PrepSettings(home=tmp_path / "h", artifact_roots=["s3://x"], port=9)
    for name, value in settings.environment().items():
        monkeypatch.setenv(name, value)
    assert PrepSettings() == settings


def test_impossible_value_is_refused() -> None:
    with pytest.raises(ValueError, match="port"):
        Settings(port=70_000)


def test_settings_by_the_name_of_a_service(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("NORIA_TRAINER_PORT", "1234")
    assert service_settings("trainer").port == 1234
