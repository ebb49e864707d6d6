"""Weights that are pickles are never unpickled, whatever their file is called: clear errors instead."""

import pickle
from pathlib import Path

import pytest
import torch

from services.evaluator.compute.model import ModelInvalid, adapted, load
from services.lm.adapters import AdapterInvalid, read_adapter
from tests.unit.evaluator.tiny import make_adapter, make_base


class Trap:
    """Leaves a file where it is unpickled."""

    def __init__(self, file: Path) -> None:
        self.file = file

    def __reduce__(self) -> tuple[object, tuple[object, ...]]:
        return (Path.touch, (self.file,))


@pytest.fixture
def trap(tmp_path: Path) -> Path:
    return tmp_path / "sprung"


@pytest.fixture
def base(tmp_path: Path) -> Path:
    return make_base(tmp_path / "base")


def poison(directory: Path, trap: Path, name: str) -> Path:
    """The directory with a pickle in the place of its weights."""
    for file in directory.glob("*.safetensors"):
        file.unlink()
    (directory / name).write_bytes(pickle.dumps(Trap(trap)))
    return directory


@pytest.mark.parametrize("name", ["model.safetensors", "pytorch_model.bin"])
def test_base_that_is_a_pickle(base: Path, trap: Path, name: str) -> None:
    with pytest.raises(ModelInvalid):
        load(poison(base, trap, name), "cpu", torch.float32)
    assert not trap.exists()


@pytest.mark.parametrize("name", ["adapter_model.safetensors", "adapter_model.bin"])
def test_adapter_that_is_a_pickle(base: Path, trap: Path, tmp_path: Path, name: str) -> None:
    adapter = poison(make_adapter(tmp_path / "adapter", base, 1), trap, name)
    loaded = load(base, "cpu", torch.float32)
    with pytest.raises(ModelInvalid), adapted(loaded, adapter):
        pass
    with pytest.raises(AdapterInvalid):
        read_adapter("a", adapter, modules={}, max_rank=8, like=torch.zeros(1))
    assert not trap.exists()


def test_the_trap_springs_where_it_is_unpickled(trap: Path, tmp_path: Path) -> None:
    pickle.loads(pickle.dumps(Trap(trap)))  # noqa: S301 - so that the tests above can fail
    assert trap.exists()
