"""A reference's log-probabilities of rows, computed once and kept as a file."""

import json
from collections.abc import Iterable, Mapping, Sequence
from pathlib import Path

import torch
from safetensors import SafetensorError, safe_open
from safetensors.torch import save_file
from torch import Tensor

from services.lm.learning import Row
from services.trainer.compute.forward import Pack
from services.trainer.compute.objective import LogProbs
from services.trainer.domain.units import Unit, row_key

Table = dict[str, Tensor]
"""By a row's key: float32 (t,), in nats, of its targets."""


def missing(units: Sequence[Unit], wanted: Iterable[int], known: Table) -> list[int]:
    """The units of `wanted` that have a row which `known` lacks."""
    return [i for i in wanted if any(row_key(row) not in known for row in units[i].rows)]


def table_of(units: Sequence[Unit], packs: Iterable[tuple[Pack, tuple[Tensor, ...]]]) -> Table:
    """The rows of packs with what was answered for them."""
    rows = ((row, answer) for pack, answers in packs for row, answer in zip(_rows(units, pack), answers, strict=True))
    return {row_key(row): answer.cpu().clone() for row, answer in rows}


def _rows(units: Sequence[Unit], pack: Pack) -> list[Row]:
    return [row for index in pack.units for row in units[index].rows]


def only(table: Table, units: Sequence[Unit], wanted: Iterable[int]) -> Table:
    """Of the table what the units of `wanted` need, as far as it is there."""
    needed = {row_key(row) for i in wanted for row in units[i].rows}
    return {key: table[key] for key in sorted(needed & table.keys())}


def save(path: Path, table: Table, identity: Mapping[str, str]) -> None:
    """Write the table; equal tables give equal bytes."""
    keys = sorted(table)
    tensors = {
        "keys": torch.tensor([list(bytes.fromhex(key)) for key in keys], dtype=torch.uint8).reshape(-1, 32),
        "lengths": torch.tensor([len(table[key]) for key in keys], dtype=torch.int32),
        "log_probs": torch.cat([table[key].float() for key in keys]) if keys else torch.zeros(0),
    }
    aside = path.with_suffix(".aside")
    save_file(tensors, aside, _metadata(identity))
    aside.replace(path)


def _metadata(identity: Mapping[str, str]) -> dict[str, str]:
    """In one entry: safetensors writes several in any order."""
    return {"identity": json.dumps(identity, sort_keys=True)}


def load(path: Path | None, identity: Mapping[str, str]) -> Table:
    """The table of this identity; empty where the file is another's, damaged or not there."""
    if path is None or not path.is_file():
        return {}
    try:
        with safe_open(path, "pt") as file:
            if file.metadata() != _metadata(identity):
                return {}
            keys, lengths, values = (file.get_tensor(name) for name in ("keys", "lengths", "log_probs"))
            names = [bytes(key.tolist()).hex() for key in keys]
            return {n: v.clone() for n, v in zip(names, values.split(lengths.tolist()), strict=True)}
    except (OSError, ValueError, SafetensorError):
        return {}


def of_units(table: Table, units: Sequence[Unit], wanted: Iterable[int], device: str) -> LogProbs:
    """The table by unit."""

    def answers(rows: Sequence[Row]) -> tuple[Tensor, ...]:
        return tuple(table[row_key(row)].to(device) for row in rows)

    return {i: answers(units[i].rows) for i in wanted}
