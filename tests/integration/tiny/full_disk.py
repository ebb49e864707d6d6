"""Fills the file system of a folder under an artifact store and a spool, and looks at what stands: run by a test."""

import contextlib
import errno
import sys
from pathlib import Path

from sqlalchemy.exc import DBAPIError

from contracts.types import ArtifactRef
from services.chassis.storage.artifacts import ArtifactStore
from services.chassis.storage.database import is_database_fault
from services.chassis.storage.spool import Spool
from tests.integration.tiny.events import Pong
from tests.integration.tiny.service import TinySettings

TRIES = 5000


def fill_spool(spool: Spool) -> int:
    """How many events the spool took before the disk was full."""
    for number in range(TRIES):
        try:
            spool.put(Pong(project="p", number=number, text="x" * 1000), f"id-{number}")
        except DBAPIError as error:
            if is_database_fault(error):
                return number
            raise
    raise AssertionError("the disk was never full")


def fill_store(store: ArtifactStore) -> list[ArtifactRef]:
    """What the store took before the disk was full."""
    kept: list[ArtifactRef] = []
    for number in range(TRIES):
        try:
            kept.append(store.put_bytes(f"{number} ".encode() * 20_000))
        except OSError as error:
            if error.errno == errno.ENOSPC:
                return kept
            raise
    raise AssertionError("the disk was never full")


def main(home: Path) -> None:
    """Raises where something that was acknowledged is lost, or half of something stands."""
    store = ArtifactStore((home / "artifacts").as_uri(), home / "cache")
    spool = Spool(home / "spool.db", TinySettings(home=home))
    ballast = home / "ballast"
    ballast.write_bytes(bytes(1 << 20))
    kept = fill_store(store)
    assert kept
    assert not list((home / "artifacts" / "aside").iterdir())
    taken = fill_spool(spool)
    assert spool.backlog().waiting == taken
    ballast.unlink()
    for number in range(taken, taken + 10):
        spool.put(Pong(project="p", number=number), f"id-{number}")
    assert spool.backlog().waiting == taken + 10
    kept.append(store.put_bytes(b"room again"))
    for ref in kept:
        store.get(ref)
    assert len(list((home / "artifacts" / "sha256").rglob("*/*"))) == len(kept)
    with contextlib.closing(spool):
        print("healed", taken, len(kept))


if __name__ == "__main__":
    main(Path(sys.argv[1]))
