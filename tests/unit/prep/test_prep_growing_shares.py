"""No prompt that a dataset had in train is held out in a later one, however the shares change: no champion is judged on it."""

from pathlib import Path
from typing import Any

import pyarrow.parquet as pq
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from contracts.canonical import digest
from contracts.preparation import Prep
from contracts.types import ArtifactRef
from services.chassis.errors import JobFailed
from services.chassis.storage.artifacts import open_store
from services.prep import handlers, worker
from services.prep.domain.rows import DROPS
from services.prep.domain.splits import grew, split_of
from services.prep.settings import PrepSettings
from tests.unit.prep.builders import Events, Opened

SHARES = st.sampled_from([0.0, 0.05, 0.15, 0.3, 0.45])
PREPS = st.builds(lambda held_out, validation: Prep(held_out=held_out, validation=validation), SHARES, SHARES)


@settings(derandomize=True, max_examples=200, deadline=None, database=None)
@given(st.lists(st.tuples(PREPS, st.integers(1, 40)), min_size=2, max_size=6))
def test_trained_prompts_stay_in_train_and_others_follow_the_shares(steps: list[tuple[Prep, int]]) -> None:
    frozen: list[tuple[Prep, set[str]]] = []
    count = 0
    for prep, more in steps:
        count += more
        keys = [digest(str(n)) for n in range(count)]
        trained = frozenset[str]().union(*(keys for then, keys in frozen if grew(prep, then)))
        found = {key: split_of(key, prep, trained) for key in keys}
        ever = set[str]().union(*(keys for _, keys in frozen))
        assert all(found[key] == "train" for key in ever)
        assert all(found[key] == split_of(key, prep) for key in keys if key not in ever)
        frozen.append((prep, {key for key in keys if found[key] == "train"}))


def test_equal_or_smaller_shares_look_at_no_earlier_dataset() -> None:
    then = Prep(held_out=0.2, validation=0.1)
    assert not grew(Prep(held_out=0.2, validation=0.1), then)
    assert not grew(Prep(held_out=0.1, validation=0.1), then)
    assert grew(Prep(held_out=0.3, validation=0.1), then)
    assert grew(Prep(held_out=0.1, validation=0.2), then)
    assert grew(Prep(held_out=0.1, validation=0.1), None)


def freeze(opened: Opened, handle: Any, event: Any, folder: Path) -> dict[str, set[str]]:
    """The prompt keys of a freeze that was asked for, by split."""
    handle([event])
    with opened() as store:
        asked = handlers.freeze_now("p", event.revision, store)
        assert isinstance(asked, str)
        job = store.jobs.get(asked)
    assert job is not None
    result = worker.run(job.spec, folder, lambda _: None)
    with opened() as store:
        assert list(handlers.on_freeze_done(store, job, result))
    artifacts = open_store(PrepSettings())
    paths = {
        name: artifacts.get(ArtifactRef.model_validate(ref)) for name, ref in result["files"].items() if name != DROPS
    }
    return {
        name: set(pq.read_table(path, columns=["prompt_key"]).column("prompt_key").to_pylist())
        for name, path in paths.items()
    }


def test_a_freeze_is_held_against_a_dataset_by_name_and_one_that_is_not_there_is_named(
    opened: Opened, handle: Any, events: Events, tmp_path: Path, database_url: str, monkeypatch: pytest.MonkeyPatch
) -> None:
    for name, value in {"HOME": str(tmp_path), "CACHE": str(tmp_path / "cache"), "DATABASE": database_url}.items():
        monkeypatch.setenv(f"NORIA_PREP_{name}", value)
    handle([events.accepted(f"r{i}", " ".join(f"w{i}x{k}" for k in range(20))) for i in range(10)])
    freeze(opened, handle, events.defined(held_out=0, validation=0), tmp_path)
    steps = [{"step": "decontaminate", "against": ["p@1"]}]
    defined = events.defined(held_out=0, validation=0, steps=steps)
    handle([defined, events.accepted("new", " ".join(f"new{k}" for k in range(20)))])
    result = worker.run({"project": "p", "revision": defined.revision, "newest": None}, tmp_path, lambda _: None)
    assert result["drops"] == {"contaminated_p@1": 10}
    assert result["counts"]["train"] == 1
    missing = events.defined(held_out=0, validation=0, steps=[{**steps[0], "against": ["exam-of-physics@7"]}])
    handle([missing])
    with pytest.raises(JobFailed, match=r"exam-of-physics@7.*the project 'exam-of-physics' has none") as failed:
        worker.run({"project": "p", "revision": missing.revision, "newest": None}, tmp_path, lambda _: None)
    assert failed.value.code == "unknown_dataset"


def test_freezes_by_customer_keep_those_that_were_trained_on(
    opened: Opened, handle: Any, events: Events, tmp_path: Path, database_url: str, monkeypatch: pytest.MonkeyPatch
) -> None:
    for name, value in {"HOME": str(tmp_path), "CACHE": str(tmp_path / "cache"), "DATABASE": database_url}.items():
        monkeypatch.setenv(f"NORIA_PREP_{name}", value)
    split = {"by": "tag:customer"}
    handle([events.accepted(f"r{i:02}", f"w{i} x{i} y{i}", customer=f"k{i % 30}") for i in range(60)])
    first = freeze(opened, handle, events.defined(held_out=0.1, split=split), tmp_path)
    handle([events.accepted(f"s{i:02}", f"v{i} z{i} u{i}", customer=f"k{i % 60}") for i in range(60)])
    second = freeze(opened, handle, events.defined(held_out=0.45, split=split), tmp_path)
    assert first["train"] <= second["train"]
    assert len(second["held_out"]) > len(first["held_out"])
    third = freeze(opened, handle, events.defined(held_out=0.45, split={"by": "time"}), tmp_path)
    assert second["train"] <= third["train"]


def test_freezes_with_a_growing_held_out_share_keep_what_was_trained_on(
    opened: Opened, handle: Any, events: Events, tmp_path: Path, database_url: str, monkeypatch: pytest.MonkeyPatch
) -> None:
    for name, value in {"HOME": str(tmp_path), "CACHE": str(tmp_path / "cache"), "DATABASE": database_url}.items():
        monkeypatch.setenv(f"NORIA_PREP_{name}", value)
    handle([events.accepted(f"r{i:02}", f"w{i} x{i} y{i}") for i in range(60)])
    first = freeze(opened, handle, events.defined(held_out=0.15), tmp_path)
    handle([events.accepted(f"s{i:02}", f"v{i} z{i} u{i}") for i in range(60)])
    second = freeze(opened, handle, events.defined(held_out=0.3), tmp_path)
    assert first["train"] <= second["train"]
    assert first["held_out"] <= second["held_out"]
    new = {key for keys in second.values() for key in keys} - {key for keys in first.values() for key in keys}
    bound = {key for key in new if split_of(key, Prep(held_out=0.3)) == "held_out"}
    assert bound == second["held_out"] & new
    assert any(split_of(key, Prep(held_out=0.15)) == "train" for key in second["held_out"])
    handle([events.accepted("again", "w0 x0 y0 ")])
    third = freeze(opened, handle, events.defined(held_out=0.3, validation=0.1), tmp_path)
    assert second["train"] <= third["train"]
