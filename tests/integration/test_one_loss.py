"""`loss` means one thing: what the trainer validates by and the evaluator measures of the same rows is the same number."""

from pathlib import Path

import pytest
import torch

from contracts.project import Adapter, Prompt, Train
from services.evaluator.compute.loss import losses
from services.evaluator.compute.model import load
from services.evaluator.compute.rows import encode, read
from services.evaluator.domain.predictions import Scores, metrics
from services.trainer.compute import run
from services.trainer.domain.spec import TrainSpec
from tests.unit.evaluator import tiny

PROMPT = Prompt(system="Shell.")
PAIRS = [
    ("list", "l"),
    ("where", "a much longer answer than the others, so that a mean over examples differs"),
    ("who", "w"),
]


def test_the_loss_of_validation_is_that_of_evaluation(tmp_path: Path) -> None:
    base = tiny.make_base(tmp_path / "base")
    split = tiny.write_split(tmp_path / "split.parquet", PAIRS)
    recipe = Train(adapter=Adapter(r=2), max_steps=1, learning_rate=1e-12, batch_size=3)
    spec = TrainSpec(base, "tiny", split, split, PROMPT, recipe, tmp_path / "cache")
    trained = run.train(spec, tmp_path / "work", lambda _: None, lambda: False)

    loaded = load(base, "cpu", torch.float32)
    examples = read(split, PROMPT).examples
    rows = [encode(example, loaded.text, 256, 8) for example in examples]
    each = losses(loaded, rows, lambda _: None)
    found = metrics(Scores({"loss": list(each)}, [len(row.ids) - row.start for row in rows]))["loss"].value
    assert trained.figures["validation_loss"] == pytest.approx(found, rel=0.01)
    assert sum(each) / len(each) != pytest.approx(found, rel=0.03)
