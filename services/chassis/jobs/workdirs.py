"""The folders of jobs: where a job works, what is left in it for another try, and when it is removed."""

import shutil
from collections.abc import Callable
from datetime import UTC, datetime
from pathlib import Path
from urllib.parse import quote, unquote

from services.chassis.settings import Settings

CANCEL = "cancel"
"""A file of this name in the folder: the job was cancelled, and nothing needs to be saved."""
AT_ONCE = 100
"""Most folders removed by one sweep: what piled up goes in several, and none takes the disk for long."""


def root(settings: Settings) -> Path:
    """The folder of all jobs of a service on this machine."""
    return settings.home / "state" / "jobs" / settings.SERVICE


def workdir(settings: Settings, id: str) -> Path:
    """The folder of one job."""
    return root(settings) / quote(id, safe="")[:200].replace(".", "%2E")


def sweep(folder: Path, ended: Callable[[list[str]], dict[str, datetime | None]], before: datetime) -> int:
    """Removes the folders of jobs that ended before `before`, and of unknown ones not touched since; how many.

    `ended` gives for each id that is known when that job ended, None where it has not.
    """
    found = {unquote(path.name): path for path in sorted(folder.glob("*")) if path.is_dir()}
    known = ended(list(found))
    old = [path for id, path in found.items() if (end := known.get(id, _touched(path))) is not None and end < before]
    for path in old[:AT_ONCE]:
        shutil.rmtree(path, ignore_errors=True)
    return len(old[:AT_ONCE])


def _touched(path: Path) -> datetime | None:
    """When the folder changed last; None where it is gone by now."""
    try:
        return datetime.fromtimestamp(path.stat().st_mtime, UTC)
    except FileNotFoundError:
        return None
