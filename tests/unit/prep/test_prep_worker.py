import json
from pathlib import Path
from typing import Any

import pyarrow.parquet as pq
import pytest
from sqlalchemy import make_url
from tokenizers import Tokenizer, models, pre_tokenizers

from contracts.types import ArtifactRef
from services.chassis.errors import JobFailed
from services.chassis.storage.artifacts import open_store
from services.prep import parquet, worker
from services.prep.domain.positions import total
from services.prep.settings import PrepSettings
from services.prep.tables import DatasetRow, RecordRow
from tests.unit.prep.builders import NOW, Events, Opened


@pytest.fixture
def settings(database_url: str, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> PrepSettings:
    values = {"HOME": str(tmp_path), "CACHE": str(tmp_path / "cache"), "DATABASE": database_url}
    for name, value in values.items():
        monkeypatch.setenv(f"NORIA_PREP_{name}", value)
    assert make_url(PrepSettings().database_url) == make_url(database_url)
    return PrepSettings()


def run(events: Events, tmp_path: Path, newest: str | None = None) -> dict[str, Any]:
    revision = events.defined(base="tiny").revision
    spec = {"project": "p", "revision": revision, "cause": "policy", "positions": {}, "newest": newest}
    return worker.run(spec, tmp_path, lambda _: None)


def rows(settings: PrepSettings, result: dict[str, Any], split: str) -> list[dict[str, Any]]:
    path = open_store(settings).get(ArtifactRef.model_validate(result["files"][split]))
    return pq.read_table(path).to_pylist()


def test_a_freeze_writes_parts_profile_and_page(
    settings: PrepSettings, events: Events, handle: Any, tmp_path: Path
) -> None:
    given = [events.accepted(f"r{i:02}", f"w{i} x{i} y{i}", tool="t") for i in range(60)]
    handle([events.defined(base="tiny"), *given, events.accepted("twin", "w0 x0 y0")])
    result = run(events, tmp_path)
    parts = {split: rows(settings, result, split) for split in ("train", "validation", "held_out")}
    assert {split: len(part) for split, part in parts.items()} == result["counts"]
    assert result["drops"] == {"duplicate": 1}
    assert {split: kinds.get("prompt_completion", 0) for split, kinds in result["kinds"].items()} == result["counts"]
    assert total(result["through"]) == 61
    first = parts["train"][0]
    assert set(first) <= set(RecordRow.model_fields) | {"prompt_key"}
    assert json.loads(first["record"])["completion"].startswith("answer")
    assert (json.loads(first["tags"]), first["subject"], first["revision"]) == ({"tool": "t"}, None, 1)
    assert all(part == sorted(part, key=lambda row: row["digest"]) for part in parts.values())
    profile = json.loads(open_store(settings).read_bytes(ArtifactRef.model_validate(result["profile"])))
    assert profile["counts"] == result["counts"]
    assert profile["tokens"]["unit"] == "white-space words"
    assert b"<svg" in open_store(settings).read_bytes(ArtifactRef.model_validate(result["report"]))


def test_the_same_records_give_the_same_bytes_and_a_known_version_is_not_written(
    settings: PrepSettings, events: Events, handle: Any, tmp_path: Path
) -> None:
    handle([events.defined(base="tiny"), *(events.accepted(f"r{i}", f"w{i}") for i in range(20))])
    first = run(events, tmp_path)
    handle([events.accepted(f"r{i}", f"w{i}", 2) for i in reversed(range(20))])
    second = run(events, tmp_path)
    assert second["version"] == first["version"]
    again = run(events, tmp_path, newest=first["version"])
    assert (again["version"], total(again["through"])) == (first["version"], 40)
    assert set(again) == {"version", "through", "segments"}
    kept = [{k: v for k, v in row.items() if k != "revision"} for row in rows(settings, first, "train")]
    assert kept == [{k: v for k, v in row.items() if k != "revision"} for row in rows(settings, second, "train")]
    third = run(events, tmp_path)
    assert third["files"] == second["files"]
    assert third["profile"] == second["profile"]


def test_tokens_are_counted_by_the_base(settings: PrepSettings, events: Events, handle: Any, tmp_path: Path) -> None:
    tokenizer = Tokenizer(models.WordLevel({"[UNK]": 0}, unk_token="[UNK]"))
    tokenizer.pre_tokenizer = pre_tokenizers.Split("", "isolated")
    folder = settings.cache / "bases" / "tiny"
    folder.mkdir(parents=True)
    tokenizer.save(str(folder / "tokenizer.json"))
    handle([events.defined(base="tiny"), *(events.accepted(f"r{i}", f"w{i}") for i in range(5))])
    result = run(events, tmp_path)
    profile = json.loads(open_store(settings).read_bytes(ArtifactRef.model_validate(result["profile"])))
    assert profile["tokens"]["unit"] == "tokens of tiny"
    assert profile["tokens"]["completion"]["sum"] == profile["characters"]["completion"]["sum"]


def test_tokens_that_cannot_be_counted_fail_the_freeze_and_those_of_the_base_decide(
    settings: PrepSettings, events: Events, handle: Any, tmp_path: Path
) -> None:
    defined = events.defined(base="tiny", steps=[{"step": "length", "min_tokens": 10}])
    handle([defined, *(events.accepted(f"r{i}", f"w{'x' * i}") for i in range(20))])
    spec = {"project": "p", "revision": defined.revision, "newest": None}
    with pytest.raises(JobFailed, match=r"'tiny', whose tokenizer\.json is not here") as failed:
        worker.run(spec, tmp_path, lambda _: None)
    assert failed.value.code == "no_tokenizer"
    tokenizer = Tokenizer(models.WordLevel({"[UNK]": 0}, unk_token="[UNK]"))
    tokenizer.pre_tokenizer = pre_tokenizers.Split("", "isolated")
    (folder := settings.cache / "bases" / "tiny").mkdir(parents=True)
    tokenizer.save(str(folder / "tokenizer.json"))
    result = worker.run(spec, tmp_path, lambda _: None)
    assert result["drops"] == {"too_few_tokens": 2}  # "answer w" and "answer wx" are of fewer letters than ten


@pytest.mark.usefixtures("settings")
def test_nothing_is_frozen_without_a_step_that_is_not_known_here(events: Events, handle: Any, tmp_path: Path) -> None:
    defined = events.defined(base="tiny", steps=[{"step": "duplicates"}, {"step": "perplexity", "most": 3}])
    handle([defined, events.accepted("r", "x")])
    with pytest.raises(JobFailed, match="asks for 'perplexity', which this version of prep does not know") as failed:
        worker.run({"project": "p", "revision": defined.revision, "newest": None}, tmp_path, lambda _: None)
    assert failed.value.code == "unknown_step"


def test_a_subject_is_on_one_side_in_files_and_stays_in_train_when_the_share_grows(
    settings: PrepSettings, events: Events, handle: Any, tmp_path: Path
) -> None:
    given = [events.accepted(f"r{i:02}", f"w{i} x{i} y{i}", customer=f"k{i % 20}") for i in range(60)]
    before = events.defined(base="tiny", split={"by": "tag:customer"})
    handle([before, *given])
    spec = {"project": "p", "revision": before.revision, "cause": "policy", "positions": {}, "newest": None}
    result = worker.run(spec, tmp_path, lambda _: None)
    sides: dict[str, set[str]] = {}
    for split in ("train", "validation", "held_out"):
        for row in rows(settings, result, split):
            sides.setdefault(json.loads(row["tags"])["customer"], set()).add(split)
    assert len(sides) == 20
    assert all(len(each) == 1 for each in sides.values())
    assert {"train", "held_out"} <= set().union(*sides.values())
    keys = parquet.group_keys(
        open_store(settings).get(ArtifactRef.model_validate(result["files"]["train"])), "tag:customer"
    )
    assert len(set(keys.tolist())) == sum(each == {"train"} for each in sides.values())


@pytest.mark.usefixtures("settings")
def test_nothing_left_to_train_on_says_why(events: Events, handle: Any, tmp_path: Path) -> None:
    handle([events.defined(base="tiny", min_chars=1000), events.accepted("r", "short")])
    spec = {"project": "p", "revision": events.defined(base="tiny", min_chars=1000).revision, "newest": None}
    with pytest.raises(JobFailed) as failed:
        worker.run(spec, tmp_path, lambda _: None)
    assert failed.value.code == "empty_dataset"
    assert "1 too_short" in failed.value.detail


@pytest.mark.usefixtures("settings")
def test_a_step_that_drops_everything_is_named_with_examples(events: Events, handle: Any, tmp_path: Path) -> None:
    steps = [{"step": "length"}, {"step": "pattern", "name": "all", "drop": "answer"}]
    defined = events.defined(base="tiny", steps=steps)
    handle([defined, *(events.accepted(f"r{i}", f"w{i}") for i in range(20))])
    with pytest.raises(JobFailed, match="the step pattern left out the last of them, for example r") as failed:
        worker.run({"project": "p", "revision": defined.revision, "newest": None}, tmp_path, lambda _: None)
    assert failed.value.code == "empty_dataset"


def test_every_step_runs_on_files(settings: PrepSettings, events: Events, handle: Any, tmp_path: Path) -> None:
    steps = [
        {"step": "mix", "by": "tag:tool", "weights": {"a": 1, "b": 1}},
        {"step": "cap", "by": "subject", "most": 3},
        {"step": "quality", "rules": ["c4_braces"]},
        {"step": "pattern", "name": "ten", "drop": "w10"},
        {"step": "near_duplicates", "within_train": True},
        {"step": "decontaminate"},
    ]
    defined = events.defined(base="tiny", steps=steps)
    handle([defined, *(events.accepted(f"r{i:02}", f"w{i} x{i} y{i}", tool="abb"[i % 3]) for i in range(30))])
    result = worker.run({"project": "p", "revision": defined.revision, "newest": None}, tmp_path, lambda _: None)
    assert set(result["drops"]) <= {"mixed_out", "pattern_ten"}
    assert sum(result["counts"].values()) + sum(result["drops"].values()) == 30
    tools = [json.loads(row["tags"])["tool"] for row in rows(settings, result, "train")]
    assert abs(tools.count("a") - tools.count("b")) <= 1


def test_the_profile_tells_what_of_a_named_dataset_stands_in_training_though_no_step_drops_it(
    settings: PrepSettings, events: Events, handle: Any, opened: Opened, tmp_path: Path
) -> None:
    texts = [" ".join(f"word{i}x{n}" for n in range(12)) for i in range(40)]
    handle([events.defined(base="tiny"), *(events.accepted(f"r{i}", text) for i, text in enumerate(texts))])
    first = run(events, tmp_path)
    row = DatasetRow(
        **{name: first[name] for name in ("version", "counts", "drops", "kinds", "files", "profile", "report")},
        project="exam",
        number=1,
        project_revision="0" * 64,
        cause="policy",
        frozen_at=NOW,
    )
    with opened() as store:
        store.add(row)
    step = {"step": "decontaminate", "words": 100, "against": ["exam@1"]}
    defined = events.defined(base="tiny", steps=[step])
    handle([defined])
    spec = {"project": "p", "revision": defined.revision, "cause": "policy", "positions": {}, "newest": None}
    second = worker.run(spec, tmp_path, lambda _: None)
    assert (second["counts"], second["drops"]) == (first["counts"], {})
    profile = json.loads(open_store(settings).read_bytes(ArtifactRef.model_validate(second["profile"])))
    told = profile["leakage"]["against"]["exam@1"]
    assert (told["compared"], told["sharing"]) == (40, second["counts"]["train"])
