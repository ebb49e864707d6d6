"""Mark and sweep over the artifact store: what nothing names and is old enough goes. Asks nobody what is named.

Source: Dijkstra et al., "On-the-Fly Garbage Collection: An Exercise in Cooperation" (1978), with age in the place of a
write barrier: what was put within the grace period may be named by a message that nobody has sent yet.
"""

import json
from collections.abc import Collection, Iterable
from dataclasses import asdict, dataclass, field
from datetime import datetime
from typing import Any

from services.chassis.storage.artifacts import ArtifactStore, Stored

SHOWN = 20
RECORD = "collection.json"
"""Beside the artifacts; no artifact has such a name."""


@dataclass(slots=True)
class Totals:
    """Artifacts and their bytes."""

    objects: int = 0
    bytes: int = 0

    def add(self, size: int) -> None:
        """One more."""
        self.objects += 1
        self.bytes += size


@dataclass(slots=True)
class Sweep:
    """What lies in a store: what is named, what is too young to tell, and what goes."""

    named: Totals = field(default_factory=Totals)
    young: Totals = field(default_factory=Totals)
    garbage: Totals = field(default_factory=Totals)
    removed: Totals = field(default_factory=Totals)
    left_aside: Totals = field(default_factory=Totals)
    largest: list[Stored] = field(default_factory=list[Stored])

    def document(self) -> dict[str, Any]:
        """The sweep as JSON."""
        largest = [{"sha256": each.sha256, "bytes": each.bytes, "at": each.at.isoformat()} for each in self.largest]
        totals = {name: asdict(getattr(self, name)) for name in ("named", "young", "garbage", "removed", "left_aside")}
        return {**totals, "largest": largest}


def sweep(store: ArtifactStore, named: Collection[bytes], before: datetime, *, remove: bool) -> Sweep:
    """Goes through the store once, and with `remove` deletes what is neither named nor put since `before`.

    `named`: digests, 32 bytes each. It may be killed at any moment and begun anew: each deletion stands by itself.
    """
    done = Sweep()
    for each in store.stored():
        if not _is_digest(each.sha256):
            continue
        if bytes.fromhex(each.sha256) in named:
            done.named.add(each.bytes)
        elif each.at >= before:
            done.young.add(each.bytes)
        else:
            done.garbage.add(each.bytes)
            done.largest = sorted([*done.largest, each], key=lambda found: -found.bytes)[:SHOWN]
            if remove and store.remove(each.sha256, before):
                done.removed.add(each.bytes)
    for path, size in store.left_aside(before):
        done.left_aside.add(size)
        if remove:
            path.unlink(missing_ok=True)
    return done


def record(store: ArtifactStore, document: dict[str, Any]) -> None:
    """Leaves word of a collection in the store, where the registry's metrics come from."""
    store.write(RECORD, json.dumps(document).encode())


def last_record(store: ArtifactStore) -> dict[str, Any] | None:
    """The newest word of a collection; None where there was none."""
    said = store.read(RECORD)
    return None if said is None else json.loads(said)


def packed(digests: Iterable[str]) -> set[bytes]:
    """Digests in half their size."""
    return {bytes.fromhex(digest) for digest in digests}


def _is_digest(name: str) -> bool:
    return len(name) == 64 and all(letter in "0123456789abcdef" for letter in name)
