import json
from datetime import UTC, datetime
from hashlib import sha256
from pathlib import Path
from typing import Any, Literal

from contracts.envelope import Meta
from contracts.events.evaluator import ModelScoredV1
from contracts.events.registry import ProjectDefinedV1
from contracts.events.serving import DeploymentChangedV1
from contracts.events.trainer import ModelTrainedV1
from contracts.project import ProjectSpec
from contracts.types import SKETCH, HeldOutRows, Metric, ModelRef, PairedTest
from services.registry.domain.revision import revision
from services.registry.store import SqlStore

EXAMPLES = Path(__file__).parents[3] / "contracts" / "examples"
PROJECT = "shell-copilot"
START = datetime(2026, 1, 31, 12, tzinfo=UTC)


def meta(id: str = "event-1", at: datetime = START) -> Meta:
    return Meta(id=id, source="/noria/test", type="test", time=at)


def example(topic: str) -> dict[str, object]:
    return json.loads((EXAMPLES / f"{topic}.json").read_text())["data"]


def define(store: SqlStore, at: datetime = START, **sections: object) -> str:
    """Defines the project and gives its revision."""
    spec = ProjectSpec.model_validate({"project": PROJECT, "base": "smollm2-135m-instruct", **sections})
    store.projects.remember(ProjectDefinedV1(project=PROJECT, revision=revision(spec), spec=spec), at)
    return revision(spec)


def trained(run_id: str, project_revision: str) -> ModelTrainedV1:
    event = ModelTrainedV1.model_validate(example("trainer.model.trained.v1"))
    return event.model_copy(update={"run_id": run_id, "project_revision": project_revision})


def scored(
    run_id: str, project_revision: str, chrf: float, champion: tuple[int, float] = (0, 18.0), dataset: str = "d" * 64
) -> ModelScoredV1:
    event = ModelScoredV1.model_validate(example("evaluator.model.scored.v1"))
    return event.model_copy(
        update={
            "run_id": run_id,
            "project_revision": project_revision,
            "evaluation_id": f"eval-{run_id}",
            "dataset": event.dataset.model_copy(update={"version": dataset}),
            "champion": ModelRef(name=PROJECT, version=champion[0]),
            "metrics": figures(chrf),
            "champion_metrics": figures(champion[1]),
            "differences": figures(chrf - champion[1], 0.4),
            "tests": {"chrf > champion": paired(chrf - champion[1])},
            "held_out": rows(dataset),
        }
    )


def paired(difference: float) -> PairedTest:
    """Of 91 examples of which each differs by nearly as much: sure."""
    p = 1e-5 if difference > 0 else 1.0
    return PairedTest(p=p, margin=0, sd=2, n=91, differing=91, flips=99_999, exact=False)


def rows(*names: str) -> HeldOutRows:
    """One row a name."""
    digests = sorted(sha256(name.encode()).hexdigest() for name in names)
    whole = sha256("".join(digests).encode()).hexdigest()
    return HeldOutRows(rows=len(names), digest=whole, smallest=tuple(d[:16] for d in digests[:SKETCH]))


def deployment(version: int, status: Literal["deployed", "failed", "removed"], **fields: Any) -> DeploymentChangedV1:
    model = ModelRef(name=PROJECT, version=version)
    return DeploymentChangedV1(project=PROJECT, model=model, status=status, **fields)


def figures(chrf: float, half: float = 2.0) -> dict[str, Metric]:
    return {"chrf": Metric(value=chrf, low=chrf - half, high=chrf + half, n=91)}
