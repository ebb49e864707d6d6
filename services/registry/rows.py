"""Between the registry's rows and its domain: a version, a promotion and an entry of the history, each way."""

from typing import Any

from pydantic import TypeAdapter

from contracts.events.evaluator import ModelScoredV1
from contracts.events.trainer import ModelTrainedV1
from contracts.prompt import Prompt
from services.registry.domain.history import Transition
from services.registry.domain.promotion import Promotion
from services.registry.domain.prompt import PromptVersion
from services.registry.domain.spending import Spent
from services.registry.domain.verdict import Decision
from services.registry.domain.version import ModelVersion
from services.registry.tables import PromotionRow, PromptRow, TransitionRow, VersionRow

_DECISION = TypeAdapter(Decision)
_SPENT = TypeAdapter(Spent)


def row_of(version: ModelVersion) -> VersionRow:
    """A version as its row."""
    return VersionRow(
        name=version.name,
        version=version.version,
        run_id=version.trained.run_id,
        stage=version.stage,
        detail=version.detail,
        failed=list(version.failed),
        trained=version.trained.model_dump(mode="json"),
        scored=version.scored.model_dump(mode="json") if version.scored else None,
        created_at=version.created_at,
        champion=version.scored.champion.version if version.scored else None,
        evaluation=version.evaluation,
        rounds=version.rounds,
        awaited=version.awaited,
        deployment=version.deployment,
        deployment_detail=version.deployment_detail,
        prompt_version=version.prompt_version,
        weights_of=version.weights_of,
        decision=_DECISION.dump_python(version.decision, mode="json") if version.decision else None,
    )


def version_of(row: VersionRow) -> ModelVersion:
    """The version that a row holds."""
    return ModelVersion(
        name=row.name,
        version=row.version,
        stage=row.stage,  # pyright: ignore[reportArgumentType] - only stages are ever written
        trained=ModelTrainedV1.model_validate(row.trained),
        created_at=row.created_at,
        scored=None if row.scored is None else ModelScoredV1.model_validate(row.scored),
        detail=row.detail,
        failed=tuple(row.failed),
        evaluation=row.evaluation,  # pyright: ignore[reportArgumentType]
        rounds=row.rounds,
        awaited=row.awaited,
        deployment=row.deployment,  # pyright: ignore[reportArgumentType]
        deployment_detail=row.deployment_detail,
        prompt_version=row.prompt_version,
        weights_of=row.weights_of,
        decision=None if row.decision is None else _DECISION.validate_python(row.decision),
    )


def spent_of(raw: dict[str, Any] | None) -> Spent | None:
    """What a model's row says that comparisons have spent."""
    return None if raw is None else _SPENT.validate_python(raw)


def spent_row(spent: Spent) -> dict[str, Any]:
    """As the model's row keeps it."""
    return _SPENT.dump_python(spent, mode="json")


def promotion_of(row: PromotionRow) -> Promotion:
    """The promotion that a row holds."""
    return Promotion(**{field: getattr(row, field) for field in Promotion.__dataclass_fields__})


def prompt_of(row: PromptRow) -> PromptVersion:
    """The prompt that a row holds."""
    return PromptVersion(row.project, row.number, Prompt.model_validate(row.prompt), row.revision, row.at)


def transition_of(row: TransitionRow) -> Transition:
    """The entry that a row holds."""
    return Transition(**{field: getattr(row, field) for field in Transition.__dataclass_fields__})
