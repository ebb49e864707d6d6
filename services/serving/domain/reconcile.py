"""What Triton must do so that what is wanted answers: wanted x loaded -> actions. Pure; does none of them."""

from collections.abc import Iterable, Mapping, Sequence
from dataclasses import dataclass
from typing import Literal

from contracts.types import ModelRef

Outcome = Literal["deployed", "failed", "removed"]
Status = Literal["pending"] | Outcome


@dataclass(frozen=True, slots=True)
class Deployment:
    """A promoted version as it stands.

    `sequence` counts the promotions of a project, a rollback being one too; `answered` is the sequence with which the
    version last became production, 0 where it never did.
    """

    project: str
    version: int
    kind: Literal["lora", "full"]
    base: str
    """Digest of the base."""
    sequence: int
    answered: int = 0
    status: Status = "pending"
    promotion: int | None = None

    @property
    def model(self) -> ModelRef:
        """Its name as others know it."""
        return ModelRef(name=self.project, version=self.version)


@dataclass(frozen=True, slots=True)
class TritonTarget:
    """Where a version lives in Triton: a model, and the adapter in it (None: the model's own weights)."""

    model: str
    adapter: str | None = None


@dataclass(frozen=True, slots=True)
class Loaded:
    """What one Triton model is known to answer with. Not `healthy`: it says ready and fails."""

    adapters: frozenset[str] = frozenset()
    healthy: bool = True


@dataclass(frozen=True, slots=True)
class Load:
    """(Re)load a model with these adapters. `afresh`: what Triton holds of it fails, and goes first."""

    model: str
    adapters: frozenset[str]
    afresh: bool = False


@dataclass(frozen=True, slots=True)
class List:
    """Replace the list of a loaded model's adapters."""

    model: str
    adapters: frozenset[str]


@dataclass(frozen=True, slots=True)
class Unload:
    """Nothing is routed to the model any more."""

    model: str


Action = Load | List | Unload


def may_become(now: Status, outcome: Outcome) -> bool:
    """Whether a promotion that stands at `now` may be noted to have come to `outcome`.

    Several instances of serving try one promotion, each in its own time: what one of them noted, another does not note
    again, nor does its failure undo what answers. A failed one may still be deployed at a later try.
    """
    return outcome in _NEXT[now]


_NEXT: Mapping[Status, tuple[Outcome, ...]] = {
    "pending": ("deployed", "failed", "removed"),
    "failed": ("deployed", "removed"),
    "deployed": ("removed",),
    "removed": (),
}


def triton_target(deployment: Deployment) -> TritonTarget:
    """One Triton model a base serves all its adapters; a full fine-tune is a model of its own."""
    if deployment.version == 0:
        return base_triton_target(deployment.base)
    name = f"{deployment.project}-v{deployment.version}"
    return (
        TritonTarget(name)
        if deployment.kind == "full"
        else TritonTarget(base_triton_target(deployment.base).model, name)
    )


def base_triton_target(digest: str) -> TritonTarget:
    """Where an untouched base lives."""
    return TritonTarget(f"base-{digest[:12]}")


def production(deployments: Iterable[Deployment]) -> Deployment | None:
    """Of one project's versions the one that answers to its name."""
    answered = [d for d in deployments if d.answered]
    return max(answered, key=lambda d: d.answered, default=None)


def kept(deployments: Sequence[Deployment], last: int) -> tuple[Deployment, ...]:
    """Of one project's versions those to hold loaded: the `last` promoted ones and production, newest first."""
    newest = sorted(deployments, key=lambda d: -d.sequence)
    now = production(deployments)
    return tuple(d for i, d in enumerate(newest) if i < last or d is now)


def plan(wanted: Iterable[TritonTarget], loaded: Mapping[str, Loaded]) -> tuple[Action, ...]:
    """Loads and lists first, then unloads: what answers now goes only when what follows it answers."""
    models: dict[str, set[str]] = {}
    for at in wanted:
        models.setdefault(at.model, set()).update({at.adapter} if at.adapter else ())
    changes = (_change(name, frozenset(adapters), loaded.get(name)) for name, adapters in sorted(models.items()))
    return (*(c for c in changes if c), *(Unload(name) for name in sorted(loaded.keys() - models.keys())))


def _change(model: str, adapters: frozenset[str], now: Loaded | None) -> Action | None:
    if now is None or not now.healthy:
        return Load(model, adapters, afresh=now is not None)
    return List(model, adapters) if adapters != now.adapters else None
