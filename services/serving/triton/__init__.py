"""Triton as this project runs it: the vllm-compatible backend, the model repository, the server process, the client."""

import sys
from collections.abc import Sequence
from importlib.machinery import ModuleSpec, PathFinder
from importlib.util import LazyLoader
from types import ModuleType

LATER = frozenset({"numpy.fft", "numpy.ma", "numpy.polynomial", "numpy.random"})
"""numpy 1, which tritonclient brings, loads these at once, 4 MB; here they load when something asks them, as numpy 2 does."""


class LaterFinder:
    """Finds modules as usual and lets some load at their first use."""

    @staticmethod
    def find_spec(name: str, path: Sequence[str] | None, target: ModuleType | None = None) -> ModuleSpec | None:
        """The spec of a module of `LATER`."""
        spec = PathFinder.find_spec(name, path, target) if name in LATER else None
        if spec is not None and spec.loader is not None:
            spec.loader = LazyLoader(spec.loader)
        return spec


sys.meta_path.insert(0, LaterFinder)
