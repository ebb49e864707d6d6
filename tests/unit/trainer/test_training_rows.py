"""A split's file as records, and the machine's measured choice."""

import json
from collections.abc import Callable
from pathlib import Path

import pytest

from services.lm import measured
from services.trainer.compute import rows


def test_rows_come_in_the_order_of_their_digests(tmp_path: Path) -> None:
    import pyarrow as pa
    import pyarrow.parquet as pq

    texts = [json.dumps({"text": name}) for name in ("b", "a")]
    pq.write_table(pa.table({"record": texts, "digest": ["2", "1"]}), tmp_path / "x.parquet")
    assert [getattr(r, "text", None) for r in rows.read(tmp_path / "x.parquet")[0]] == ["a", "b"]


def test_a_machine_is_measured_once(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    asked: list[int] = []

    def measure() -> measured.Compute:
        asked.append(1)
        return measured.Compute("cpu", "bfloat16", 3)

    monkeypatch.setattr(measured, "_measure", measure)
    monkeypatch.setattr("torch.cuda.is_available", lambda: False)
    choose: Callable[[Path], measured.Compute] = measured.choose
    assert choose(tmp_path) == choose(tmp_path) == measured.Compute("cpu", "bfloat16", 3)
    assert asked == [1]
