"""What no served version needs leaves the local disk; what one needs, and what is young, stays."""

import asyncio
import json
import os
import time
from datetime import UTC, datetime
from pathlib import Path
from typing import Any

import pytest
from sqlalchemy import Engine

from contracts.events.registry import ModelPromotedV1
from services.chassis.context import Context
from services.chassis.observability.metrics import Metrics
from services.chassis.storage.artifacts import open_store
from services.chassis.storage.database import open_engine
from services.chassis.storage.migration import migrate
from services.serving import model_cache, store
from services.serving.model_cache import YOUNG_SECONDS, sweep
from services.serving.model_files import base_folders, own_folder
from services.serving.settings import ServingSettings
from services.serving.store import SqlStore

EXAMPLE = json.loads(Path("contracts/examples/registry.model.promoted.v1.json").read_text())["data"]
NOW = datetime(2026, 1, 31, tzinfo=UTC)
LATER = time.time() + 2 * YOUNG_SECONDS


@pytest.fixture
def context(database_url: str, tmp_path: Path) -> Context[Any]:
    settings = ServingSettings(home=tmp_path, database=database_url)
    engine: Engine = open_engine(settings)
    migrate(engine, "serving", Path(store.__file__).parent / "migrations")
    return Context(settings, engine, SqlStore, open_store(settings), Metrics("serving"))


def promoted(version: int, base: str) -> ModelPromotedV1:
    event = ModelPromotedV1.model_validate(EXAMPLE)
    model = event.model.model_copy(update={"version": version})
    return event.model_copy(update={"model": model, "base": event.base.model_copy(update={"digest": base})})


def bring(models: Path, event: ModelPromotedV1) -> list[Path]:
    """The folders of a version as the deployer makes them."""
    own = own_folder(models, event.kind, event.project, event.model.version) / model_cache.fingerprint(event.files)
    found = [own, *base_folders(models, event.base)]
    for folder in found:
        folder.mkdir(parents=True, exist_ok=True)
        (folder / "file").write_text("weights")
    return found


def transact(context: Context[Any], work: Any) -> None:
    asyncio.run(context.transact(lambda kept: (work(kept), ())))


def test_what_no_version_needs_goes_and_the_rest_stays(context: Context[Any], tmp_path: Path) -> None:
    models = tmp_path / "models"
    served, gone = promoted(2, "a" * 64), promoted(1, "b" * 64)
    transact(context, lambda kept: [kept.promote(event, NOW) for event in (gone, served)])
    stays, goes = bring(models, served), bring(models, gone)
    (models / "repository" / "base-1").mkdir(parents=True)
    assert sweep(context, models, LATER) == 0
    transact(context, lambda kept: kept.set_status(gone.model, 1, "removed", "", NOW))
    assert sweep(context, models, time.time()) == 0
    assert sweep(context, models, LATER) == 3
    assert all((folder / "file").exists() for folder in stays)
    assert not any(folder.exists() for folder in goes)
    assert not goes[0].parent.exists()
    assert (models / "repository" / "base-1").exists()


def test_a_base_that_another_version_needs_stays(context: Context[Any], tmp_path: Path) -> None:
    models = tmp_path / "models"
    served, gone = promoted(2, "a" * 64), promoted(1, "a" * 64)
    transact(context, lambda kept: [kept.promote(event, NOW) for event in (gone, served)])
    bring(models, served)
    own, base, _ = bring(models, gone)
    transact(context, lambda kept: kept.set_status(gone.model, 1, "removed", "", NOW))
    assert sweep(context, models, LATER) == 1
    assert (base.exists(), own.exists()) == (True, False)


def test_a_version_that_is_wanted_again_meanwhile_keeps_its_folder(
    context: Context[Any], tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    models, event = tmp_path / "models", promoted(1, "a" * 64)
    folders = bring(models, event)
    os.utime(folders[0], (1, 1))
    listed = model_cache.unneeded

    def promoted_then(*arguments: Any) -> Any:
        found = list(listed(*arguments))
        transact(context, lambda kept: kept.promote(event, NOW))
        return found

    monkeypatch.setattr(model_cache, "unneeded", promoted_then)
    assert sweep(context, models, LATER) == 0
    assert all(folder.exists() for folder in folders)
