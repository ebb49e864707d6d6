"""A promoted version with all that serving it takes: base, files, prompt and policy. Pure data."""

from collections.abc import Iterable, Mapping, Sequence
from dataclasses import dataclass, replace
from datetime import datetime
from typing import Any

from contracts.events.serving import DeploymentChangedV1
from contracts.project import ProjectSpec, Prompt, Serve
from contracts.types import BaseRef, Files
from services.serving.domain.reconcile import Deployment, Outcome, kept


@dataclass(frozen=True, slots=True)
class ServedVersion:
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
    prompt_version: int | None = None
    """The number of `prompt` in its project, where somebody counted it."""

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


@dataclass(frozen=True, slots=True)
class Applied:
    """A project in service of which no version is served, and its prompt's number where somebody counted it."""

    spec: ProjectSpec
    defined_at: datetime
    prompt_version: int | None


def deployment_changed(d: Deployment, status: Outcome, detail: str, seconds: float = 0.0) -> DeploymentChangedV1:
    """The event that says what became of a promotion, `seconds` after it was first seen."""
    return DeploymentChangedV1(
        project=d.project, model=d.model, status=status, detail=detail, seconds=seconds, promotion=d.promotion
    )


def kept_of_all(versions: Iterable[ServedVersion], last: int) -> list[ServedVersion]:
    """Of each project the versions that should be loaded: see `kept`."""
    by_project: dict[str, list[ServedVersion]] = {}
    for version in (s for s in versions if s.deployment.status != "removed"):
        by_project.setdefault(version.deployment.project, []).append(version)
    keep: list[ServedVersion] = []
    for group in by_project.values():
        live = {d.version for d in kept([s.deployment for s in group], last)}
        keep += [s for s in group if s.deployment.version in live]
    return keep


def seen_here(
    versions: Sequence[ServedVersion],
    wanted: Sequence[ServedVersion],
    held: Iterable[ServedVersion],
    answered: Mapping[tuple[str, int], int],
    last: int,
) -> list[ServedVersion]:
    """What one instance serves: each version `answered` as it did here, whatever it did for another instance.

    `versions` are all that live, `wanted` those of them that any instance keeps, `held` what is here from before: of
    that, what is this instance's production stays until one that is still wanted answers here too.
    """

    def here(served: ServedVersion) -> ServedVersion:
        return replace(served, deployment=replace(served.deployment, answered=answered.get(served.key, 0)))

    keys = {s.key for s in (*wanted, *kept_of_all(map(here, versions), last))}
    keep = [here(s) for s in versions if s.key in keys]
    switched = {s.deployment.project for s in keep if s.deployment.answered}
    awaited = {s.deployment.project for s in keep} - switched
    former: dict[str, ServedVersion] = {}
    for served in sorted(map(here, held), key=lambda s: s.deployment.answered):
        if served.deployment.answered and served.deployment.project in awaited:
            former[served.deployment.project] = served
    return [*keep, *former.values()]


def with_bases(keep: list[ServedVersion]) -> list[ServedVersion]:
    """`keep` and, for each project, the untouched base of its newest version unless that was promoted itself."""
    newest = {s.deployment.project: s for s in sorted(keep, key=lambda s: s.deployment.sequence)}
    promoted = {s.deployment.project for s in keep if s.deployment.version == 0}
    return [*keep, *(_base_of(s) for project, s in newest.items() if project not in promoted)]


def _base_of(version: ServedVersion) -> ServedVersion:
    d = version.deployment
    own = Deployment(d.project, 0, "lora", d.base, sequence=0, status="deployed")
    return replace(version, deployment=own, files={}, detail="")
