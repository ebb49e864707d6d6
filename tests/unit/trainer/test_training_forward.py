"""What makes training quick must change nothing: the same losses and gradients as the plain forward pass, row by row."""

from dataclasses import replace
from pathlib import Path

import pytest
import torch
from torch.nn.functional import cross_entropy

from contracts.project import Adapter
from services.lm import measured
from services.lm.learning import Row
from services.lm.measured import Compute
from services.trainer.compute import frozen_layers, model
from services.trainer.compute.forward import collate, loss_sum
from services.trainer.domain.packing import Limits
from services.trainer.domain.units import learn

COMPUTE = Compute("cpu", "float32", 1)
PREFIX = 4
IDS = [(0, 9, 8, 7, *range(20 + i, 26 + 2 * i)) for i in range(5)]
ROWS = [Row(ids, ((6 + i % 3, 8 + i % 3), (9 + i % 3, len(ids)))[: 1 + i % 2]) for i, ids in enumerate(IDS)]
UNITS = [learn(row) for row in ROWS]


def net(base: Path, layers: tuple[int, ...] | None = None) -> torch.nn.Module:
    torch.manual_seed(1)
    made = model.prepare(base, "tiny", Adapter(r=4, layers_to_transform=layers), COMPUTE)
    with torch.no_grad():
        for name, parameter in model.trainable(made).items():
            if "lora_B" in name:
                parameter.normal_(std=0.1)
    return made


def plain_loss(made: torch.nn.Module, rows: list[Row]) -> torch.Tensor:
    """Each row alone, logits at every position, labels masked with -100 as Hugging Face does."""
    total = torch.zeros(())
    for row in rows:
        learnt = {i for start, end in row.learnt for i in range(start, end)}
        labels = torch.tensor([token if i in learnt else -100 for i, token in enumerate(row.ids)])
        logits = made(input_ids=torch.tensor([row.ids])).logits[0]
        total = total + cross_entropy(logits[:-1], labels[1:], reduction="sum", ignore_index=-100)
    return total


def gradients(made: torch.nn.Module, loss: torch.Tensor) -> dict[str, torch.Tensor]:
    made.zero_grad()
    loss.backward()
    return {name: p.grad.clone() for name, p in model.trainable(made).items() if p.grad is not None}


@pytest.mark.parametrize("prefix", [0, PREFIX])
def test_pack_equals_plain_forward(base: Path, prefix: int) -> None:
    made = net(base)
    pack = collate(range(5), UNITS, prefix, "cpu", torch.float32)
    expected, packed = plain_loss(made, ROWS), loss_sum(made, pack, torch.float32)
    torch.testing.assert_close(packed, expected, rtol=1e-5, atol=1e-5)
    want, have = gradients(made, expected), gradients(made, packed)
    assert want.keys() == have.keys()
    for name, value in want.items():
        torch.testing.assert_close(have[name], value, rtol=1e-4, atol=1e-5)


def test_rows_of_a_pack_do_not_see_each_other(base: Path) -> None:
    made = net(base)
    other = Row((0, 9, 8, 7, *range(60, 70)), ((6, 14),))
    alone = loss_sum(made, collate([0], [UNITS[0]], PREFIX, "cpu", torch.float32), torch.float32)
    beside = loss_sum(made, collate([0, 1], [UNITS[0], learn(other)], PREFIX, "cpu", torch.float32), torch.float32)
    neighbour = loss_sum(made, collate([0], [learn(other)], PREFIX, "cpu", torch.float32), torch.float32)
    torch.testing.assert_close(beside - neighbour, alone, rtol=1e-5, atol=1e-4)


def test_kept_lower_layers_equal_plain_forward(base: Path) -> None:
    made = net(base, (2, 3))
    want = gradients(made, plain_loss(made, ROWS))
    first = model.first_trained_layer(made)
    assert first == 2
    limits, asked = Limits(20, 1000), list[int]()
    with measured.pool(replace(COMPUTE, workers=2)) as pool:
        kept = frozen_layers.compute(
            made, first, UNITS, range(5), PREFIX, limits, torch.float32, lambda: asked.append(1), pool, 2
        )
    assert len(asked) == 2  # before each pair of three packs
    frozen_layers.install(made, first, kept)
    pack = collate([3, 0, 4, 1, 2], UNITS, PREFIX, "cpu", torch.float32)
    kept.set_pack(pack)
    have = gradients(made, loss_sum(made, pack, torch.float32))
    assert want.keys() == have.keys()
    for name, value in want.items():
        torch.testing.assert_close(have[name], value, rtol=1e-4, atol=1e-5)


def test_first_trained_layer_is_the_bottom_without_a_choice(base: Path) -> None:
    assert model.first_trained_layer(net(base)) == 0
    full = model.prepare(base, "tiny", Adapter(kind="none"), COMPUTE)
    assert model.first_trained_layer(full) == 0
