"""The losses and gradients of preference tuning are TRL's own, on the same tiny model and rows."""

from collections.abc import Callable, Sequence
from pathlib import Path
from typing import Any

import pytest
import torch
from torch import Tensor

from contracts.project import Adapter
from contracts.training import PreferenceTuning
from services.lm.learning import Row
from services.lm.measured import Compute
from services.trainer.compute import model
from services.trainer.compute.forward import collate, log_probs
from services.trainer.compute.objective import LogProbs, Objective
from services.trainer.domain.units import Unit, mismatched, pair, verdict

COMPUTE = Compute("cpu", "float32", 1)
SHAPES = ((5, 4, 7), (9, 6, 2), (7, 3, 3), (4, 8, 5))
"""Tokens of prompt, chosen and rejected answer of each pair."""


def row(prompt: Sequence[int], answer: Sequence[int]) -> Row:
    return Row((*prompt, *answer), ((len(prompt), len(prompt) + len(answer)),))


def pairs(shapes: Sequence[tuple[int, int, int]]) -> list[Unit]:
    """Pairs with some tokens of the answers in common, so that a shared head reaches into them."""
    found: list[Unit] = []
    for i, (prompt, chosen, rejected) in enumerate(shapes):
        asked = [10 + (3 * i + k) % 90 for k in range(prompt)]
        same = [70 + i]
        one, other = [20 + i + 2 * k for k in range(chosen - 1)], [60 - i - k for k in range(rejected - 1)]
        found.append(pair(row(asked, same + one), row(asked, same + other)))
    return found


@pytest.fixture
def net(base: Path) -> Any:
    torch.manual_seed(3)
    made = model.prepare(base, "tiny", Adapter(r=4), COMPUTE)
    move(made, 0.05)
    return made


def move(made: Any, by: float) -> None:
    """Go on from where the adapter is, as a few steps would have."""
    with torch.no_grad():
        for name, parameter in model.trainable(made).items():
            if "lora_B" in name:
                parameter.add_(torch.randn_like(parameter) * by)


def asked(made: Any, units: Sequence[Unit], chosen: Sequence[int]) -> dict[int, tuple[Tensor, ...]]:
    pack = collate(chosen, units, 0, "cpu", torch.float32)
    rows = iter(log_probs(made, pack, torch.float32))
    return {i: tuple(next(rows) for _ in units[i].rows) for i in chosen}


def reference(made: Any, units: Sequence[Unit]) -> LogProbs:
    with torch.no_grad():
        return asked(made, units, range(len(units)))


def ours(made: Any, objective: Objective, chosen: Sequence[int], kl: float = 0.0) -> Tensor:
    batch, total = objective.batch(chosen, kl), torch.zeros(())
    for part in (chosen[:1], chosen[1:]):  # in two packs, as a step of two workers is
        pack = collate(part, objective.units, 0, "cpu", torch.float32)
        total = total + objective.loss(pack, log_probs(made, pack, torch.float32), batch)[0]
    return total / batch.divisor


def same(made: Any, have: Tensor, want: Tensor) -> None:
    """Equal losses with equal gradients, none of which is zero everywhere."""
    torch.testing.assert_close(have, want, rtol=1e-5, atol=1e-6)
    weights = model.trainable(made)
    for name, mine, theirs in zip(
        weights,
        torch.autograd.grad(have, list(weights.values())),
        torch.autograd.grad(want, list(weights.values())),
        strict=True,
    ):
        torch.testing.assert_close(mine, theirs, rtol=1e-4, atol=1e-6, msg=lambda told, n=name: f"{n}: {told}")
        assert theirs.abs().max() > 0


def trained_by(
    kind: Any, config: Any, made: Any, base: Path, folder: Path, example: dict[str, Any], **settings: Any
) -> Any:
    """TRL's trainer around our model; its own dataset is not looked at."""
    from datasets import Dataset
    from transformers import AutoTokenizer

    tokenizer = AutoTokenizer.from_pretrained(base)
    arguments = config(
        output_dir=str(folder),
        use_cpu=True,
        bf16=False,
        gradient_checkpointing=False,
        report_to=[],
        max_length=None,
        per_device_train_batch_size=4,
        **settings,
    )
    rows = Dataset.from_list([example] * 4)
    return kind(model=made, args=arguments, train_dataset=rows, processing_class=tokenizer)


DPO: list[tuple[dict[str, Any], dict[str, Any]]] = [
    ({}, {"loss_type": ["sigmoid"]}),
    (
        {"loss": "robust", "label_smoothing": 0.2, "beta": 0.3},
        {"loss_type": ["robust"], "label_smoothing": 0.2, "beta": 0.3},
    ),
    ({"ld_alpha": 0.4}, {"loss_type": ["sigmoid"], "ld_alpha": 0.4}),
    ({"sft_weight": 0.5}, {"loss_type": ["sigmoid", "sft"], "loss_weights": [1.0, 0.5]}),
]


@pytest.mark.parametrize(("mine", "theirs"), DPO, ids=["sigmoid", "robust", "ld", "anchor"])
def test_dpo(net: Any, base: Path, tmp_path: Path, mine: dict[str, Any], theirs: dict[str, Any]) -> None:
    from trl.trainer.dpo_config import DPOConfig
    from trl.trainer.dpo_trainer import DataCollatorForPreference, DPOTrainer

    units = pairs(SHAPES)
    objective = Objective("dpo", PreferenceTuning(**mine), units, reference(net, units))
    example = {"prompt": "a", "chosen": "b", "rejected": "c"}
    trainer = trained_by(DPOTrainer, DPOConfig, net, base, tmp_path, example, **theirs)
    made: Any = trainer.model
    move(made, 0.05)
    made.eval()
    batch = DataCollatorForPreference(pad_token_id=1)(
        [
            {
                "prompt_ids": list(u.rows[0].ids[: u.rows[0].start]),
                "chosen_ids": list(u.rows[0].ids[u.rows[0].start :]),
                "rejected_ids": list(u.rows[1].ids[u.rows[1].start :]),
            }
            for u in units
        ]
    )
    same(made, ours(made, objective, range(4)), trainer.compute_loss(made, batch))


def test_kto(net: Any, base: Path, tmp_path: Path) -> None:
    from trl.trainer.kto_config import KTOConfig
    from trl.trainer.kto_trainer import DataCollatorForUnpairedPreference, KTOTrainer

    answers = [verdict(u.rows[i % 2], bool(i % 2)) for i, u in enumerate(pairs(SHAPES))]
    units = [*answers, *(verdict(row, False) for row in mismatched(answers))]
    against, weights = {i: i + 4 for i in range(4)}, (1.0, 1.7)
    objective = Objective("kto", PreferenceTuning(), units, reference(net, units), against, weights)
    example = {"prompt": "a", "completion": "b", "label": True}
    trainer = trained_by(KTOTrainer, KTOConfig, net, base, tmp_path, example, undesirable_weight=weights[1])
    made: Any = trainer.model
    move(made, 0.2)
    made.eval()
    batch = DataCollatorForUnpairedPreference(pad_token_id=1)(
        [
            {
                "prompt_ids": list(u.rows[0].ids[: u.rows[0].start]),
                "completion_ids": list(u.rows[0].ids[u.rows[0].start :]),
                "KL_completion_ids": list(units[i + 4].rows[0].ids[units[i + 4].rows[0].start :]),
                "label": u.desirable,
            }
            for i, u in enumerate(answers)
        ]
    )
    pack = collate(objective.mismatches(range(4)), units, 0, "cpu", torch.float32)
    with torch.no_grad():
        ratios = objective.divergence(pack, log_probs(made, pack, torch.float32))
    kl = max(0.0, sum(ratios) / len(ratios))
    assert kl > 0
    same(made, ours(made, objective, range(4), kl), trainer.compute_loss(made, batch))


def test_orpo(net: Any, base: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """Prompts of one token: TRL learns those of the prompt too."""
    monkeypatch.setenv("TRL_EXPERIMENTAL_SILENCE", "1")
    from trl.experimental.orpo import ORPOConfig, ORPOTrainer

    units = pairs([(1, chosen, rejected) for _, chosen, rejected in SHAPES])
    objective = Objective("orpo", PreferenceTuning(beta=0.25), units)
    example = {"prompt": "a", "chosen": "b", "rejected": "c"}
    settings = {"beta": 0.25, "remove_unused_columns": False}
    trainer = trained_by(ORPOTrainer, ORPOConfig, net, base, tmp_path, example, **settings)
    made: Any = trainer.model
    made.eval()
    batch = {"prompt_input_ids": torch.zeros(4, 1, dtype=torch.long)}
    for side, name in enumerate(("chosen", "rejected")):
        batch |= padded(name, [u.rows[side] for u in units])
    want, _ = trainer.get_batch_loss_metrics(made, batch)
    same(made, ours(made, objective, range(4)), want)


def padded(name: str, rows: Sequence[Row]) -> dict[str, Tensor]:
    longest = max(len(row.ids) for row in rows)
    fill: Callable[[Row, int, Sequence[int]], list[int]] = lambda row, by, ids: [*ids, *[by] * (longest - len(row.ids))]  # noqa: E731
    return {
        f"{name}_input_ids": torch.tensor([fill(row, 1, row.ids) for row in rows]),
        f"{name}_attention_mask": torch.tensor([fill(row, 0, [1] * len(row.ids)) for row in rows]),
        f"{name}_labels": torch.tensor([fill(row, -100, [-100, *row.ids[1:]]) for row in rows]),
    }
