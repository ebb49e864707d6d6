"""A dataset's splits as the units of each stage. Knows the tokenizer and no model."""

from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

from contracts.project import Train
from services.lm.learning import Encoded, encode_records
from services.lm.tokens import TextTokenizer
from services.trainer.compute import rows
from services.trainer.domain import preferences, schedule
from services.trainer.domain.failures import BadRecipe, EmptyDataset, OneSidedDataset
from services.trainer.domain.packing import common_prefix
from services.trainer.domain.preferences import Preferred
from services.trainer.domain.spec import TrainSpec
from services.trainer.domain.stages import stage_recipes
from services.trainer.domain.units import Unit, learn, mismatched, verdict

NO_UNITS: Mapping[int, int] = {}


@dataclass(slots=True)
class Stage:
    """A method and its units, by their place in `Data.units`; `against` names the mismatch of each answer of kto."""

    recipe: Train
    train: Sequence[int]
    held: Sequence[int]
    notes: dict[str, Any]
    left_out: dict[str, int]
    against: Mapping[int, int] = field(default_factory=lambda: NO_UNITS)
    weights: tuple[float, float] = (1.0, 1.0)
    length_ratio: float | None = None
    shortened: bool = False
    """Whether the budget of tokens affords fewer steps than the recipe means."""

    @property
    def method(self) -> str:
        """sft, dpo, kto or orpo."""
        return self.recipe.methods[0]


@dataclass(slots=True)
class Data:
    """The units of all stages, with the length of the prefix that all of their rows share."""

    units: list[Unit]
    stages: list[Stage]
    prefix: int = 0

    @property
    def left_out(self) -> dict[str, int]:
        """Records that nothing was learnt of, of the stage that learns of most."""
        return min((stage.left_out for stage in self.stages), key=lambda reasons: sum(reasons.values()))

    @property
    def notes(self) -> dict[str, Any]:
        """Rows of both splits, and what was cut or left out of the training split, for the manifest."""
        if len(self.stages) == 1:
            return self.stages[0].notes
        return {stage.method: stage.notes for stage in self.stages}


def load(spec: TrainSpec, tokenizer: TextTokenizer) -> Data:
    """Both splits as units.

    Raises:
        EmptyDataset, OneSidedDataset: a stage has nothing to learn from.
        BadRecipe: a stage's method is not known here, or the budget of tokens ends before a stage has begun.
    """
    data = Data([], [])
    for recipe in stage_recipes(spec.recipe):
        make = _supervised if recipe.methods == ("sft",) else _preferred
        data.stages.append(make(spec, recipe, tokenizer, data.units))
    if spec.recipe.budget.tokens is not None:
        _keep_within(data, spec.recipe.budget.tokens)
    # With dropout the rows of a pack would share the prefix's mask, which plain training does not do.
    if spec.recipe.adapter.dropout == 0:
        data.prefix = common_prefix([row for unit in data.units for row in unit.rows])
    return data


def _keep_within(data: Data, budget: int) -> None:
    """Shortens the stages to what the budget of tokens affords, the earlier ones first."""
    left = budget
    for stage in data.stages:
        steps, spent = schedule.affordable(stage.recipe, [data.units[i].tokens for i in stage.train], left)
        if steps == 0:
            raise BadRecipe(
                f"train.budget.tokens: of {budget} tokens {left} are left for {stage.method}, fewer than its first step has; "
                "raise it, or lower train.epochs or train.batch_size"
            )
        stage.shortened = steps < schedule.total_steps(stage.recipe, len(stage.train))
        stage.recipe, left = stage.recipe.model_copy(update={"max_steps": steps}), left - spent


def _place(units: list[Unit], more: Sequence[Unit]) -> range:
    units += more
    return range(len(units) - len(more), len(units))


def _supervised(spec: TrainSpec, recipe: Train, tokenizer: TextTokenizer, units: list[Unit]) -> Stage:
    def encoded(split: Path) -> Encoded:
        records, tags = rows.read(split)
        return encode_records(records, tokenizer, spec.prompt, recipe.learn, recipe.max_length, tags)

    training, held = encoded(spec.train), encoded(spec.validation) if spec.validation else Encoded()
    if not training.rows:
        raise EmptyDataset(nothing_left(training.left_out))
    left_out = dict(sorted(training.left_out.items()))
    notes = {
        "train": len(training.rows),
        "validation": len(held.rows),
        "truncated": training.cut,
        "left_out": left_out,
    }
    own, kept = (_place(units, [learn(row) for row in part]) for part in (training.rows, held.rows))
    return Stage(recipe, own, kept, notes, left_out)


def nothing_left(left_out: Mapping[str, int]) -> str:
    """What a run without rows fails with."""
    if not left_out:
        return "no training row has a completion to learn from: the split is empty"
    counted = ", ".join(f"{count} {reason}" for reason, count in sorted(left_out.items()))
    return f"no training row has a completion to learn from; left out: {counted}"


def _preferred(spec: TrainSpec, recipe: Train, tokenizer: TextTokenizer, units: list[Unit]) -> Stage:
    def encoded(split: Path) -> Preferred:
        return preferences.encode(*rows.read(split), tokenizer, spec.prompt, recipe)

    (method,), settings = recipe.methods, recipe.preference
    training, held = encoded(spec.train), encoded(spec.validation) if spec.validation else Preferred()
    if why := preferences.why_not(method, training):
        raise (OneSidedDataset if training.units else EmptyDataset)(why)
    replay = preferences.replayed(training.rows, len(training.units), settings.replay, recipe.seed)
    left_out = dict(sorted(training.left_out.items()))
    ratio = preferences.length_ratio(training.units)
    own, again, kept = (_place(units, part) for part in (training.units, replay, held.units))
    stage = Stage(recipe, [*own, *again], kept, {}, left_out, length_ratio=ratio)
    if method == "kto":
        stage.weights = _weights(recipe, training.units)
        stage.against = _against(units, own) | _against(units, kept)
    stage.notes = {
        "train": len(training.units),
        "replayed": len(replay),
        "validation": len(held.units),
        "too_close": training.too_close,
        "length_ratio": ratio,
        "truncated": training.cut,
        "left_out": left_out,
    } | ({"weights": list(stage.weights)} if method == "kto" else {})
    return stage


def _weights(recipe: Train, units: Sequence[Unit]) -> tuple[float, float]:
    desirable, undesirable = preferences.kto_weights(*preferences.balance(units))
    given = recipe.preference
    return given.desirable_weight or desirable, given.undesirable_weight or undesirable


def _against(units: list[Unit], answers: Sequence[int]) -> dict[int, int]:
    rows = mismatched([units[i] for i in answers])
    return dict(zip(answers, _place(units, [verdict(row, False) for row in rows]), strict=True))
