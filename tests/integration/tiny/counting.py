"""What a job of the tests does in its process: counts to ten, saves each step, and misbehaves on demand. Imports little."""

import os
import signal
import time
from collections.abc import Callable
from pathlib import Path
from typing import Any

from services.chassis.errors import JobFailed, JobStopped
from services.chassis.jobs import checkpoints, child
from services.chassis.settings import Settings
from services.chassis.storage.artifacts import ArtifactStore, open_store
from tests.integration.tiny.events import NAME


class CountingSettings(Settings):
    SERVICE = NAME


def work(spec: dict[str, Any], workdir: Path, report: Callable[[dict[str, Any]], None]) -> dict[str, Any]:
    """Counts; `how` is the seconds of a step, "N uploads" puts the checkpoints into the store, "N publishes" the result."""
    misbehave(spec["how"])
    seconds, _, more = spec["how"].partition(" ")
    artifacts = open_store(CountingSettings())
    uploader = checkpoints.Uploader(artifacts, workdir, report, 0.01) if more == "uploads" else None
    place = workdir / "step"
    first = step = begin(place, artifacts)
    while step < 10:
        time.sleep(float(seconds or 0))
        step += 1
        write(place, step)
        if uploader:
            uploader.offer(step, {"step": place})
        report({"step": step})
        if child.stop_requested() or child.cancelled(workdir):
            raise JobStopped
    if more == "publishes":
        artifacts.put_file(place)
    return {"first": first, "last": step}


def begin(place: Path, artifacts: ArtifactStore) -> int:
    """The step to go on from: the one saved here, or in the store where that is further."""
    here = int(place.read_text()) if place.exists() else 0
    if (fetched := checkpoints.fetch(place.parent, artifacts, here)) is None:
        return here
    write(place, int((fetched / "step").read_text()))
    return int(place.read_text())


def write(place: Path, step: int) -> None:
    aside = place.with_suffix(".aside")
    aside.write_text(str(step))
    aside.replace(place)


def misbehave(how: str) -> None:
    match how:
        case "fails":
            raise JobFailed("no_luck", "there was none")
        case "leaks":
            names = ("NORIA_DATABASE", "AWS_SECRET_ACCESS_KEY", "NORIA_KAFKA_SASL_PASSWORD")
            raise ValueError(f"no access with {[os.environ[name] for name in names]}")
        case "out-of-memory":
            os.kill(os.getpid(), signal.SIGKILL)
        case "crashes":
            os.kill(os.getpid(), signal.SIGSEGV)
        case "stubborn":
            time.sleep(3600)
        case _:
            pass
