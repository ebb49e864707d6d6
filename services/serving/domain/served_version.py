"""A promoted version with all that serving it takes: base, files, prompt and policy. Pure data."""

from collections.abc import Iterable
from dataclasses import dataclass, replace
from datetime import datetime
from typing import Any

from contracts.project import Prompt, Serve
from contracts.types import BaseRef, Files
from services.serving.domain.reconcile import Deployment, kept


@dataclass(frozen=True, slots=True)
class Standing:
    """A version as the store knows it.

    Its prompt is that of the project revision it was trained under, where that is known: a later prompt is for a later
    model. The policy is today's. Both are None until the project's definition has come.
    """

    deployment: Deployment
    base: BaseRef
    files: Files
    prompt: Prompt | None
    serve: Serve | None
    detail: str
    promoted_at: datetime
    deployed_at: datetime | None

    @property
    def key(self) -> tuple[str, int]:
        """Project and version."""
        return self.deployment.project, self.deployment.version

    def body(self) -> dict[str, Any]:
        """The deployment as GET /v1/deployments shows it."""
        project, version = self.key
        return {
            "project": project,
            "model": {"name": project, "version": version},
            "status": self.deployment.status,
            "detail": self.detail,
            "kind": self.deployment.kind,
            "base": {"name": self.base.name, "digest": self.base.digest},
            "promoted_at": self.promoted_at.isoformat(),
            "deployed_at": self.deployed_at.isoformat() if self.deployed_at else None,
        }


def kept_of_all(standings: Iterable[Standing], last: int) -> list[Standing]:
    """Of each project the versions that should be loaded: see `kept`."""
    by_project: dict[str, list[Standing]] = {}
    for standing in (s for s in standings if s.deployment.status != "removed"):
        by_project.setdefault(standing.deployment.project, []).append(standing)
    keep: list[Standing] = []
    for group in by_project.values():
        live = {d.version for d in kept([s.deployment for s in group], last)}
        keep += [s for s in group if s.deployment.version in live]
    return keep


def with_bases(keep: list[Standing]) -> list[Standing]:
    """`keep` and, for each project, the untouched base of its newest version unless that was promoted itself."""
    newest = {s.deployment.project: s for s in sorted(keep, key=lambda s: s.deployment.sequence)}
    promoted = {s.deployment.project for s in keep if s.deployment.version == 0}
    return [*keep, *(_base_of(s) for project, s in newest.items() if project not in promoted)]


def _base_of(standing: Standing) -> Standing:
    d = standing.deployment
    own = Deployment(d.project, 0, "lora", d.base, sequence=0, status="deployed")
    return replace(standing, deployment=own, files={}, detail="")
