"""Versions, their lineage and their comparison as the JSON objects that the API gives."""

from collections.abc import Iterable, Sequence
from dataclasses import asdict, dataclass
from typing import Any

from contracts.judge import words as judge_words
from contracts.project import ProjectSpec
from contracts.prompt import prompt_digest
from contracts.types import Metric
from services.registry.domain.history import Transition
from services.registry.domain.prompt import PromptVersion
from services.registry.domain.spending import Spent, words
from services.registry.domain.version import ModelVersion

Json = dict[str, Any]
_SHOWN_ELSEWHERE = {"project", "project_revision", "run_id", "dataset", "held_out"}


@dataclass(frozen=True, slots=True)
class InForce:
    """Of a model: the version that answers requests, and the champion that candidates are compared with; 0 is the base.

    They differ while a promotion waits for its deployment: the version before answers on.
    """

    answering: int
    champion: int


def shown(version: ModelVersion, in_force: InForce) -> Json:
    """A version as an item of a list.

    `stage` is what is wanted, `deployment` what serving made of it, `serves` whether this version answers now, and
    `is_champion` whether candidates are compared with it.
    """
    trained, scored = version.trained, version.scored
    return {
        "name": version.name,
        "version": version.version,
        "project": trained.project,
        "stage": version.stage,
        "detail": version.detail,
        "failed": list(version.failed),
        "deployment": _deployment(version),
        **_in_force(version, in_force),
        "evaluation": {"status": version.evaluation, "rounds": version.rounds},
        "run_id": trained.run_id,
        "prompt_version": version.prompt_version,
        "weights_of": version.weights_of,
        "kind": trained.kind,
        "base": {"name": trained.base.name, "digest": trained.base.digest},
        "weights": trained.weights,
        "dataset": {"number": trained.dataset.number, "version": trained.dataset.version},
        "project_revision": trained.project_revision,
        "evaluation_id": scored.evaluation_id if scored else None,
        "champion": scored.champion.model_dump() if scored else None,
        "metrics": _metrics(version.metrics),
        "champion_metrics": _metrics(scored.champion_metrics if scored else {}),
        "base_metrics": _metrics(scored.base_metrics if scored else {}),
        "differences": _metrics(scored.differences if scored else {}),
        "created_at": version.created_at.isoformat(),
    }


def lineage(
    version: ModelVersion,
    weights: ModelVersion,
    in_force: InForce,
    spec: ProjectSpec | None,
    history: Iterable[Transition],
) -> Json:
    """Everything a version was made of, by digest, and what became of it; artifacts with their reference.

    `weights` is the version that was trained, the same one where these are its own; `history` holds the entries of this version.
    """
    trained, scored = version.trained, version.scored
    return {
        "model": {
            "name": version.name,
            "version": version.version,
            "stage": version.stage,
            "detail": version.detail,
            "deployment": _deployment(version),
            **_in_force(version, in_force),
        },
        "project": {
            "name": trained.project,
            "revision": trained.project_revision,
            "spec": spec.model_dump(mode="json") if spec else None,
        },
        "prompt": {"version": version.prompt_version, "prompt": spec.prompt.model_dump(mode="json") if spec else None},
        "weights_of": version.weights_of,
        "dataset": trained.dataset.model_dump(mode="json"),
        "base": trained.base.model_dump(mode="json"),
        "run": {
            "run_id": weights.trained.run_id,
            "project_revision": weights.trained.project_revision,
            "kind": trained.kind,
            "code": trained.code,
            "environment": trained.environment,
            "figures": trained.figures,
        },
        "files": {path: ref.model_dump(mode="json") for path, ref in sorted(trained.files.items())},
        "weights": trained.weights,
        "evaluation": scored.model_dump(mode="json", exclude=_SHOWN_ELSEWHERE) if scored else None,
        "history": [transition(entry) for entry in history],
    }


def explained(version: ModelVersion, in_force: InForce, spec: ProjectSpec | None, spent: Spent | None) -> Json:
    """Every value that went into the newest decision on a version; `decision` is None where the gate has not judged it."""
    trained, scored, decision = version.trained, version.scored, version.decision
    return {
        "model": {"name": version.name, "version": version.version, "stage": version.stage, "detail": version.detail},
        **_in_force(version, in_force),
        "decision": decision and {**asdict(decision), "findings": [asdict(found) for found in decision.findings]},
        "held_out": decision and decision.look and {"words": words(decision.look, decision.alpha)},
        "left_now": None if spent is None else 1 - spent.spent,
        "evaluation": None
        if scored is None
        else {
            "evaluation_id": scored.evaluation_id,
            "champion": scored.champion.version,
            "rows": scored.held_out.rows if scored.held_out else None,
            "metrics": _metrics(scored.metrics),
            "champion_metrics": _metrics(scored.champion_metrics),
            "differences": _metrics(scored.differences),
            "judge": scored.judge
            and {**scored.judge.model_dump(mode="json"), "words": list(judge_words(scored.judge))},
            "tests": {rule: test.model_dump(mode="json") for rule, test in scored.tests.items()},
            "slices": scored.slices and scored.slices.model_dump(mode="json"),
            "regressions": scored.regressions and scored.regressions.model_dump(mode="json"),
        },
        "gate": spec
        and {
            "rules": [str(rule) for rule in spec.gate.rules],
            "alpha": spec.gate.alpha,
            "approval": spec.gate.approval,
            "regressions": spec.gate.regressions,
        },
        "dataset": {"number": trained.dataset.number, "version": trained.dataset.version},
        "run_id": trained.run_id,
        "code": trained.code,
        "project_revision": trained.project_revision,
    }


def shown_prompt(prompt: PromptVersion, models: Sequence[int], serving: int | None) -> Json:
    """A version of a project's prompt; `models` are the newest versions under it, `serving` the prompt that answers now."""
    return {
        "project": prompt.project,
        "version": prompt.number,
        "digest": prompt_digest(prompt.prompt),
        "prompt": prompt.prompt.model_dump(mode="json"),
        "revision": prompt.revision,
        "at": prompt.at.isoformat(),
        "models": list(models),
        "serving": prompt.number == serving,
    }


def transition(entry: Transition) -> Json:
    """One entry of a history."""
    return {**asdict(entry), "at": entry.at.isoformat()}


def compared(a: ModelVersion, b: ModelVersion, in_force: InForce) -> Json:
    """Two versions metric by metric. `certain` says that the 95% intervals do not overlap on one and the same dataset.

    `better` is 'a', 'b', 'equal', or None where one was not measured.
    """
    same = a.scored is not None and b.scored is not None and a.scored.dataset.version == b.scored.dataset.version
    names = sorted(a.metrics.keys() | b.metrics.keys())
    return {
        "name": a.name,
        "a": shown(a, in_force),
        "b": shown(b, in_force),
        "same_dataset": same,
        "metrics": {name: _pair(a.metrics.get(name), b.metrics.get(name), same) for name in names},
    }


def _pair(a: Metric | None, b: Metric | None, same: bool) -> Json:
    sides: Json = {"a": a and a.model_dump(mode="json"), "b": b and b.model_dump(mode="json")}
    if a is None or b is None:
        return {**sides, "difference": None, "better": None, "certain": False}
    gain = (b.value - a.value) * (1 if a.higher_is_better else -1)
    return {
        **sides,
        "difference": b.value - a.value,
        "better": "equal" if gain == 0 else "b" if gain > 0 else "a",
        "certain": same and (a.high < b.low or b.high < a.low),
    }


def _in_force(version: ModelVersion, in_force: InForce) -> Json:
    return {"serves": version.version == in_force.answering, "is_champion": version.version == in_force.champion}


def _deployment(version: ModelVersion) -> Json | None:
    return None if version.deployment is None else {"status": version.deployment, "detail": version.deployment_detail}


def _metrics(metrics: dict[str, Metric]) -> Json:
    return {name: metric.model_dump(mode="json") for name, metric in metrics.items()}
