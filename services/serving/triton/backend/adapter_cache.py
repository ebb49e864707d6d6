"""Keeps the adapters that a model's list names (services/serving/triton/layout.py), and reads them when first asked for.

The list is read again whenever it changes, so a promotion needs no reload of the model; an adapter that is no
longer listed goes as soon as no running row holds it.
"""

import json
from collections import OrderedDict
from dataclasses import dataclass, field
from pathlib import Path
from threading import Lock

import torch

from services.lm.adapters import Adapter, AdapterInvalid, read_adapter


class AdapterUnknown(LookupError):
    """No adapter of this name is listed."""


@dataclass(slots=True)
class AdapterCache:
    """The adapters of one model: listed in a file, loaded when first asked for, the longest unused dropped first."""

    listing: Path
    modules: dict[str, tuple[int, int]]
    max_rank: int
    like: torch.Tensor
    limit: int
    listed: dict[str, str] = field(default_factory=dict[str, str])
    loaded: OrderedDict[tuple[str, str], Adapter] = field(default_factory=OrderedDict[tuple[str, str], Adapter])
    stamp: tuple[int, int] = (-1, -1)
    lock: Lock = field(default_factory=Lock)

    def get(self, name: str) -> Adapter:
        """Returns the adapter of this name. Raises AdapterUnknown, AdapterInvalid."""
        with self.lock:
            self.refresh()
            if name not in self.listed:
                raise AdapterUnknown(f"LoRA {name} is not supported, we currently support {sorted(self.listed)}")
            key = (name, self.listed[name])
            if key not in self.loaded:
                self.loaded[key] = read_adapter(
                    name, Path(key[1]), modules=self.modules, max_rank=self.max_rank, like=self.like
                )
            self.loaded.move_to_end(key)
            while len(self.loaded) > self.limit:
                self.loaded.popitem(last=False)
            return self.loaded[key]

    def refresh(self) -> None:
        """Reads the listing if it changed. Raises AdapterInvalid when it is missing or not {name: directory}."""
        try:
            status = self.listing.stat()
            if (stamp := (status.st_mtime_ns, status.st_ino)) == self.stamp:
                return
            listed = json.loads(self.listing.read_text(encoding="utf-8"))
        except (OSError, ValueError) as error:
            raise AdapterInvalid(f"{self.listing} cannot be read: {error}") from error
        if not isinstance(listed, dict) or not all(isinstance(path, str) for path in listed.values()):
            raise AdapterInvalid(f"{self.listing} must hold an object of adapter names and directories")
        self.listed, self.stamp = listed, stamp
        for key in [key for key in self.loaded if self.listed.get(key[0]) != key[1]]:
            del self.loaded[key]
