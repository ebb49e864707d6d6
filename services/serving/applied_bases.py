"""The bases of projects of which nothing was promoted yet: they answer from the moment that the project is applied.

A base is found by the name that the project gives it, as the trainer finds it, so that it has the same digest and stays loaded
when a version that was trained on it comes. Asks no Triton and tells nobody.
"""

import time
from dataclasses import dataclass, field

from contracts.types import BaseRef
from services.chassis.storage.artifacts import ArtifactStore
from services.lm import bases
from services.lm.base_files import base_ref
from services.lm.errors import BaseInvalid, BaseNotFound
from services.serving.domain.reconcile import Deployment
from services.serving.domain.served_version import Applied, ServedVersion
from services.serving.settings import ServingSettings

RETRY_SECONDS = 30.0
"""After this a base that was not to be had is looked for again: it may be copied or downloaded meanwhile."""


@dataclass(slots=True)
class AppliedBases:
    """What is known of the bases that projects name. Touched by the event loop's thread alone; all of it can be lost."""

    projects: tuple[Applied, ...] = ()
    found: dict[str, BaseRef] = field(default_factory=dict[str, BaseRef])
    faults: dict[str, tuple[float, str]] = field(default_factory=dict[str, tuple[float, str]])
    """Why a base is not to be had, and when (time.monotonic()) it is looked for again."""

    def sought(self, now: float) -> list[str]:
        """The names of bases that are to be looked for now."""
        names = sorted({each.spec.base for each in self.projects} - self.found.keys())
        return [name for name in names if self.faults.get(name, (0.0, ""))[0] <= now]

    def due(self, now: float) -> bool:
        """Whether a base that was not to be had, and that a project still names, is to be looked for again."""
        return any(
            self.faults[name][0] <= now for name in {each.spec.base for each in self.projects} & self.faults.keys()
        )

    def refuse(self, name: str, why: str) -> None:
        """Notes why a base is not to be had."""
        self.faults[name] = time.monotonic() + RETRY_SECONDS, why

    def take(self, base: BaseRef) -> None:
        """Notes a base that was found."""
        self.found[base.name] = base
        self.faults.pop(base.name, None)

    def served(self) -> list[ServedVersion]:
        """The bases that were found, each as version 0 of its project."""
        return [_served(each, base) for each in self.projects if (base := self.found.get(each.spec.base)) is not None]

    def awaited(self) -> dict[str, str | None]:
        """The projects whose base may not be here yet, and why it is not to be had; None: it is being brought."""
        specs = [each.spec for each in self.projects]
        return {spec.project: self.faults[spec.base][1] if spec.base in self.faults else None for spec in specs}


def find(name: str, settings: ServingSettings, artifacts: ArtifactStore) -> BaseRef:
    """The base of this name, its files in the artifact store. Blocks: it may be downloaded.

    Raises:
        BaseNotFound, BaseInvalid, HubUnavailable: see services.lm.bases.resolve.
        OSError, ArtifactError: its files cannot be read or stored.
    """
    return base_ref(name, bases.resolve(name, settings.cache), artifacts.put_file)


def said(fault: Exception) -> str:
    """What a client may be told of a base that is not to be had."""
    known = isinstance(fault, BaseNotFound | BaseInvalid)
    return str(fault)[:500] if known else f"{type(fault).__name__}: {str(fault)[:400]}"


def _served(applied: Applied, base: BaseRef) -> ServedVersion:
    spec, at = applied.spec, applied.defined_at
    own = Deployment(spec.project, 0, "lora", base.digest, sequence=0, status="deployed")
    return ServedVersion(own, base, {}, spec.prompt, spec.serve, "", at, at, applied.prompt_version)
