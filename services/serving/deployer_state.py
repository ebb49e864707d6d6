"""What the deployer remembers between its rounds, and what follows from it. Asks nobody and changes no Triton."""

import asyncio
import time
from collections import Counter
from collections.abc import Iterable
from dataclasses import dataclass, field
from typing import Literal

from services.chassis.context import Context
from services.serving.applied_bases import AppliedBases
from services.serving.domain.reconcile import Deployment, TritonTarget, production
from services.serving.domain.routing import Target, build
from services.serving.domain.served_version import ServedVersion
from services.serving.model_files import MaterialisedVersion
from services.serving.runtime import Runtime
from services.serving.store import Store
from services.serving.triton.client import Triton

ROUND_SECONDS = 1.0

Key = tuple[str, int]
Promotion = tuple[str, int, int]
Kind = Literal["bring", "change", "try"]
"""What a task does for a Triton model: brings files of its versions, loads it or lists its adapters, tries a version."""


@dataclass(slots=True)
class DeployerState:
    """Touched by the event loop's thread alone; all of it can be lost."""

    ctx: Context[Store]
    runtime: Runtime
    triton: Triton
    change: int | None = None
    is_settled: bool = False
    look_at: float = 0.0
    versions: list[ServedVersion] = field(default_factory=list[ServedVersion])
    """What is served here, each version as it answered here, and the bases."""
    materialised: dict[Key, tuple[ServedVersion, MaterialisedVersion]] = field(
        default_factory=dict[Key, tuple[ServedVersion, MaterialisedVersion]]
    )
    """The versions whose files are here, each with what it was when they were brought."""
    lingering: dict[TritonTarget, tuple[float, MaterialisedVersion]] = field(
        default_factory=dict[TritonTarget, tuple[float, MaterialisedVersion]]
    )
    """What nobody wants any more, and until when it stays: requests routed a moment ago may still need it."""
    projects: dict[str, bool] = field(default_factory=dict[str, bool])
    """Every known project, and whether it is out of service."""
    teachers: list[Target] = field(default_factory=list[Target])
    answered: dict[Key, int] = field(default_factory=dict[Key, int])
    """With which promotion each version answered last in this instance's own Triton."""
    seen: dict[Promotion, float] = field(default_factory=dict[Promotion, float])
    failures: dict[Promotion, tuple[int, float]] = field(default_factory=dict[Promotion, tuple[int, float]])
    stalled: dict[str, float] = field(default_factory=dict[str, float])
    """Triton models whose load failed, and when it is tried again."""
    deaths: Counter[str] = field(default_factory=Counter[str])
    """How often in a row the process of a Triton model died while it was loaded."""
    tasks: dict[str, tuple[Kind, asyncio.Task[None]]] = field(
        default_factory=dict[str, tuple[Kind, "asyncio.Task[None]"]]
    )
    """What loads, lists or tries, by Triton model: one at a time."""
    touched: set[str] = field(default_factory=set[str])
    """Triton models that such a task worked on: something of them may lie in Triton's repository."""
    bases: AppliedBases = field(default_factory=AppliedBases)
    finding: dict[str, asyncio.Task[None]] = field(default_factory=dict[str, "asyncio.Task[None]"])
    """What looks for the bases of projects of which nothing was promoted, by the base's name."""
    bringing: dict[str, asyncio.Task[None]] = field(default_factory=dict[str, "asyncio.Task[None]"])
    """What brings files, by Triton model."""

    def here(self, model: str) -> list[MaterialisedVersion]:
        """What of a Triton model is on the local disk and wanted, or was a moment ago."""
        wanted = [p for _, p in self.materialised.values() if p.triton_target.model == model]
        former = [p for target, (_, p) in self.lingering.items() if target.model == model]
        return [*wanted, *(p for p in former if p.triton_target not in {w.triton_target for w in wanted})]

    def is_here(self, served: ServedVersion) -> bool:
        """Whether the version's files were brought for it as it is now."""
        before = self.materialised.get(served.key)
        return before is not None and before[0] == served

    def may_try(self, deployment: Deployment) -> bool:
        """Whether it has not failed, or long enough ago."""
        return self.failures.get(promotion(deployment), (0, 0.0))[1] <= time.monotonic()

    def is_new(self, deployment: Deployment) -> bool:
        """Whether a promotion has not answered here yet and may be tried, be it once more."""
        return deployment.answered < deployment.sequence and self.may_try(deployment)

    def loading(self) -> set[str]:
        """The Triton models that a task loads or lists: nobody else judges them."""
        return {model for model, (kind, _) in self.tasks.items() if kind == "change"}

    def stall(self, model: str, fault: Exception, seconds: float) -> None:
        """Lets a Triton model be for a while, and says why."""
        self.runtime.faults[model] = str(fault)[:500]
        self.stalled[model] = time.monotonic() + seconds

    def remember(self, keep: Iterable[ServedVersion]) -> None:
        """When each promotion was first seen; what is no longer kept is forgotten."""
        kept, now = list(keep), time.monotonic()
        promotions = {promotion(s.deployment) for s in kept}
        self.answered = {s.key: s.deployment.answered for s in kept if s.deployment.answered}
        self.seen = {p: self.seen.get(p, now) for p in promotions}
        self.failures = {p: f for p, f in self.failures.items() if p in promotions}

    def serve(self, versions: list[ServedVersion]) -> None:
        """Takes up what is to be served; what was and is no longer lingers."""
        now, keys = time.monotonic(), {s.key for s in versions}
        former = [p for key, (_, p) in self.materialised.items() if key not in keys]
        self.versions = versions
        self.materialised = {key: found for key, found in self.materialised.items() if key in keys}
        wanted = {p.triton_target for _, p in self.materialised.values()}
        fresh = {p.triton_target: (now + ROUND_SECONDS, p) for p in former}
        self.lingering = {
            target: (until, p) for target, (until, p) in (fresh | self.lingering).items() if until > now and target not in wanted
        }  # fmt: skip

    def route(self) -> None:
        """Routes what has answered before, and every base; what is new is routed when it has answered."""
        pairs = [(s.deployment, self.materialised[s.key][1]) for s in self.versions if s.key in self.materialised]
        out = [project for project, retired in self.projects.items() if retired]
        targets = [p.target for d, p in pairs if d.answered or d.version == 0]
        by_project: dict[str, list[Deployment]] = {}
        for deployment, _ in pairs:
            by_project.setdefault(deployment.project, []).append(deployment)
        now = {project: production(group) for project, group in by_project.items()}
        answering = {p: d.version for p, d in now.items() if d}
        self.runtime.routes = build(targets, answering, self.projects, out, self.bases.awaited(), self.teachers)


def promotion(deployment: Deployment) -> Promotion:
    """What names a promotion among all."""
    return deployment.project, deployment.version, deployment.sequence
