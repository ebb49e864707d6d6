"""What a run may spend: tokens by plan, time and money by the clock."""

import math
from collections.abc import Callable
from dataclasses import replace
from datetime import timedelta
from pathlib import Path

import pytest
from hypothesis import given
from hypothesis import strategies as st
from pydantic import ValidationError

from contracts.project import ProjectSpec, Train
from contracts.training import Budget
from services.lm.tokens import open_tokenizer
from services.trainer.compute import data, run
from services.trainer.domain import schedule
from services.trainer.domain.failures import BadRecipe
from services.trainer.domain.packing import step_rows
from services.trainer.domain.spec import Progress, TrainResult, TrainSpec
from services.trainer.worker import affordable_seconds

Specs = Callable[..., TrainSpec]


def go(spec: TrainSpec, workdir: Path) -> tuple[TrainResult, list[Progress]]:
    told: list[Progress] = []
    return run.train(spec, workdir, told.append, lambda: False), told


@given(
    st.lists(st.integers(1, 50), min_size=1, max_size=30), st.integers(0, 3000), st.integers(1, 9), st.integers(0, 5)
)
def test_steps_are_as_many_as_the_tokens_afford(tokens: list[int], budget: int, batch: int, seed: int) -> None:
    recipe = Train(batch_size=batch, seed=seed, epochs=2)
    steps, spent = schedule.affordable(recipe, tokens, budget)

    def of(count: int) -> int:
        return sum(tokens[row] for step in range(count) for row in step_rows(len(tokens), batch, seed, step))

    total = schedule.total_steps(recipe, len(tokens))
    assert spent == of(steps) <= budget
    assert steps == total or of(steps + 1) > budget


def test_a_budget_of_tokens_ends_the_schedule_with_the_run(make_spec: Specs, tmp_path: Path) -> None:
    whole, _ = go(make_spec(), tmp_path / "whole")
    spec = make_spec()
    half = replace(
        spec, recipe=spec.recipe.model_copy(update={"budget": Budget(tokens=int(whole.figures["tokens"] / 2))})
    )
    result, told = go(half, tmp_path / "half")
    assert 0 < result.figures["tokens"] <= whole.figures["tokens"] / 2
    assert result.figures["steps"] == told[-1].total_steps < whole.figures["steps"]
    steps = told[-1].total_steps
    assert told[-1].learning_rate == schedule.learning_rate(half.recipe, steps - 1, steps)
    assert (result.figures["budget_spent"], whole.figures.get("budget_spent")) == (1.0, None)
    again, _ = go(half, tmp_path / "again")
    assert again.weights == result.weights


def test_a_stage_that_the_tokens_do_not_reach_is_refused_before_the_first_step(
    make_spec: Specs, tmp_path: Path
) -> None:
    spec = make_spec(stages=("sft", "dpo"))
    found = data.load(spec, open_tokenizer(spec.base))
    _, sft = schedule.affordable(found.stages[0].recipe, [found.units[i].tokens for i in found.stages[0].train], 10**9)
    poor = spec.recipe.model_copy(update={"budget": Budget(tokens=sft + 1)})
    with pytest.raises(BadRecipe, match=r"1 are left for dpo"):
        go(replace(spec, recipe=poor), tmp_path / "poor")


def test_a_run_whose_time_is_over_ends_with_a_model(make_spec: Specs, tmp_path: Path) -> None:
    spec = replace(make_spec(stages=("sft", "dpo")), seconds=1e-6)
    result, told = go(spec, tmp_path / "a")
    assert result.figures["steps"] == 1
    assert told[-1].method == "sft"
    assert result.figures["budget_spent"] == 1.0
    assert "preferences" not in result.figures, "the second stage did not begin"
    assert (result.directory / "adapter_model.safetensors").is_file()


def test_money_is_time_at_the_hours_price() -> None:
    assert affordable_seconds(Budget(), 0) == math.inf
    assert affordable_seconds(Budget(money=0.5), 2) == 900
    assert affordable_seconds(Budget(money=0.5, time=timedelta(minutes=5)), 2) == 300
    with pytest.raises(BadRecipe, match="NORIA_TRAINER_PRICE_PER_HOUR"):
        affordable_seconds(Budget(money=0.5), 0)


def test_a_project_without_a_budget_is_written_as_before() -> None:
    spec = ProjectSpec(project="p", base="b")
    assert "budget" not in spec.model_dump(mode="json")["train"]
    limited = ProjectSpec.model_validate({"project": "p", "base": "b", "train": {"budget": {"time": "2h"}}})
    assert limited.model_dump(mode="json")["train"]["budget"] == {"tokens": None, "time": "7200s", "money": None}


@pytest.mark.parametrize("budget", [{"tokens": 0}, {"time": "0s"}, {"money": 0}, {"money": -1}, {"hours": 1}])
def test_what_is_no_budget_is_refused(budget: dict[str, object]) -> None:
    with pytest.raises(ValidationError):
        Budget.model_validate(budget)
