"""Removes from the local disk what no version that is served needs: weights, bases, templates. Loads and unloads nothing.

All of it lies in the artifact store, and is brought again where it is wanted again.
"""

import asyncio
import shutil
import time
from collections.abc import Iterable, Iterator
from pathlib import Path
from typing import Any

from contracts.types import BaseRef, Files
from services.chassis.context import Context
from services.lm.base_files import fingerprint
from services.serving.model_files import base_folders, own_folder
from services.serving.store import Store

SWEEP_SECONDS = 3600.0
YOUNG_SECONDS = 3600.0
"""A folder that was brought so recently may be of a version that was promoted a moment ago."""
LEVELS = {"bases": 1, "templates": 1, "adapters": 3, "full": 3}
"""How deep below <home>/models the folders lie that appear whole: adapters/<project>/<version>/<fingerprint>."""

Needed = tuple[str, int, str, BaseRef, Files]
"""(project, version, kind, base, files) of a version that is or shall be served."""


def folders(models: Path, needed: Iterable[Needed]) -> set[Path]:
    """The folders that these versions need."""
    found: set[Path] = set()
    for project, version, kind, base, files in needed:
        found |= {*base_folders(models, base), own_folder(models, kind, project, version) / fingerprint(files)}
    return found


def unneeded(models: Path, needed: set[Path], now: float) -> Iterator[Path]:
    """The folders that nobody needs and that are not young."""
    for name, depth in LEVELS.items():
        for folder in (models / name).glob("/".join("*" * depth)):
            if folder.is_dir() and folder not in needed and now - folder.stat().st_mtime > YOUNG_SECONDS:
                yield folder


def sweep(ctx: Context[Store], models: Path, now: float) -> int:
    """Removes them, each after another look at what is needed; how many they were."""
    count = 0
    for folder in list(unneeded(models, folders(models, ctx.read_now(lambda store: store.needed())), now)):
        if folder in folders(models, ctx.read_now(lambda store: store.needed())):
            continue
        shutil.rmtree(folder, ignore_errors=True)
        for parent in list(folder.parents)[: LEVELS[folder.relative_to(models).parts[0]] - 1]:
            if not any(parent.iterdir()):
                parent.rmdir()
        count += 1
    return count


async def keep_sweeping(ctx: Context[Any]) -> None:
    """Sweeps once an hour until cancelled."""
    models = ctx.settings.home / "models"
    while True:
        await asyncio.sleep(SWEEP_SECONDS)
        try:
            if count := await asyncio.to_thread(sweep, ctx, models, time.time()):
                ctx.log.info("models removed from the local disk", folders=count)
        except Exception as error:
            ctx.log.warning("the local models could not be swept", detail=str(error)[:300])
