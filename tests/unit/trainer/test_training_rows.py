"""Records as token ids: what is learnt, what is cut, what is left out; and the machine's measured choice."""

import json
from collections.abc import Callable
from pathlib import Path
from typing import Any

import pytest

from contracts.project import Prompt
from contracts.records import Record, parse_record
from services.trainer.compute import device, rows
from services.trainer.domain.failures import BaseInvalid


@pytest.fixture(scope="module")
def tokenizer(base: Path) -> Any:
    return rows.load_tokenizer(base)


def record(**fields: object) -> Record:
    return parse_record(fields)[1]


CHAT = record(
    messages=[
        {"role": "user", "content": "first"},
        {"role": "assistant", "content": "one"},
        {"role": "user", "content": "second"},
        {"role": "assistant", "content": "two"},
    ]
)


def test_only_the_last_answer_and_its_end_are_learnt(tokenizer: Any) -> None:
    (row,), notes = rows.encode([CHAT], tokenizer, Prompt(system="Be brief."), 500)
    assert tokenizer.decode(row.ids[row.start :]) == "two</s>"
    assert tokenizer.decode(row.ids[: row.start]).endswith("<s>assistant\n")
    assert "Be brief." in tokenizer.decode(row.ids[: row.start])
    assert not notes


def test_prompt_and_completion_equal_the_conversation(tokenizer: Any) -> None:
    pair = record(prompt="list", completion="ls")
    chat = record(messages=[{"role": "user", "content": "list"}, {"role": "assistant", "content": "ls"}])
    assert rows.encode([pair], tokenizer, Prompt(), 99) == rows.encode([chat], tokenizer, Prompt(), 99)


def test_text_is_learnt_whole(tokenizer: Any) -> None:
    (row,), _ = rows.encode([record(text="abc")], tokenizer, Prompt(system="unused"), 99)
    assert (tokenizer.decode(row.ids), row.start) == ("abc</s>", 1)


def test_what_is_cut_or_left_out_is_counted(tokenizer: Any) -> None:
    given = [
        CHAT,
        record(prompt="x" * 200, completion="y"),
        record(prompt="p", completion="z" * 200),
        record(prompt="p", chosen="a", rejected="b"),
        record(prompt="p", completion="c", label=False),
        record(prompt="p", completion=" "),
    ]
    kept, notes = rows.encode(given, tokenizer, Prompt(), 100)
    assert [len(row.ids) <= 100 for row in kept] == [True, True]
    assert notes == {"truncated": 2, "no_completion": 2, "preference": 2}


def test_a_base_without_chat_template_is_refused(base: Path) -> None:
    bare = rows.load_tokenizer(base)
    bare.chat_template = None
    with pytest.raises(BaseInvalid, match=r"chat_template\.jinja"):
        rows.encode([CHAT], bare, Prompt(), 99)


def test_rows_come_in_the_order_of_their_digests(tmp_path: Path) -> None:
    import pyarrow as pa
    import pyarrow.parquet as pq

    texts = [json.dumps({"text": name}) for name in ("b", "a")]
    pq.write_table(pa.table({"record": texts, "digest": ["2", "1"]}), tmp_path / "x.parquet")
    assert [getattr(r, "text", None) for r in rows.read(tmp_path / "x.parquet")] == ["a", "b"]


def test_a_machine_is_measured_once(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    asked: list[int] = []

    def measure() -> device.Compute:
        asked.append(1)
        return device.Compute("cpu", "bfloat16", 3)

    monkeypatch.setattr(device, "_measure", measure)
    monkeypatch.setattr("torch.cuda.is_available", lambda: False)
    choose: Callable[[Path], device.Compute] = device.choose
    assert choose(tmp_path) == choose(tmp_path) == device.Compute("cpu", "bfloat16", 3)
    assert asked == [1]
