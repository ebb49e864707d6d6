import json
from pathlib import Path
from typing import Any

import pyarrow.parquet as pq
import pytest
import torch
from peft import PeftModel
from transformers import AutoModelForCausalLM, AutoTokenizer

from contracts.project import Prompt
from contracts.types import ArtifactRef, BaseRef
from services.chassis.errors import ArtifactUnavailable, JobFailed
from services.chassis.jobs.failures import classify, final
from services.chassis.storage.artifacts import ArtifactStore
from services.evaluator import worker
from services.evaluator.domain.failures import ADVICE
from services.evaluator.domain.task import Subject, Task, untouched
from services.evaluator.tables import read_predictions
from services.lm.scoring.metrics import chrf
from tests.unit.evaluator import tiny

PAIRS = [
    ("list files", "ls"),
    ("where am I", "pwd"),
    ("who", "whoami"),
    ("a longer request for all processes", "ps aux"),
]
SUITE = ("loss", "exact_match", "chrf", "bleu", "rouge_l")
PROMPT = Prompt(system="Shell.")


class Bench:
    """A store with a base, two adapters and a full model in it."""

    def __init__(self, root: Path) -> None:
        self.root = root
        self.store = ArtifactStore((root / "artifacts").as_uri(), root / "cache")
        self.directory = tiny.make_base(root / "base")
        self.base = BaseRef(name="tiny", digest="0" * 64, files=self.store.put_directory(self.directory))
        self.adapters = [tiny.make_adapter(root / f"adapter-{n}", self.directory, n) for n in (1, 2)]
        self.split = self.put_split("held_out", PAIRS)

    def put_split(
        self,
        name: str,
        pairs: list[tuple[str, str]],
        extra: tuple[tiny.Json, ...] = (),
        tags: tuple[tiny.Json, ...] | None = None,
    ) -> ArtifactRef:
        return self.store.put_file(tiny.write_split(self.root / f"{name}.parquet", pairs, extra, tags))

    def lora(self, number: int) -> Subject:
        files = self.store.put_directory(self.adapters[number])
        return Subject(kind="lora", base=self.base, files=files, prompt=PROMPT)

    def full(self) -> Subject:
        files = self.store.put_directory(tiny.make_base(self.root / "full", 5))
        return Subject(kind="full", base=self.base, files=files, prompt=PROMPT)

    def task(self, **changes: Any) -> Task:
        base = untouched(self.base, PROMPT)
        task = Task(
            evaluation_id="eval-1",
            suite=SUITE,
            max_tokens=12,
            split=self.split,
            candidate=self.lora(0),
            champion=base,
            base=base,
        )
        return task.model_copy(update=changes)

    def measure(self, task: Task, attempt: str = "a", **changes: int) -> tuple[Any, list[dict[str, Any]]]:
        workdir = self.root / f"job-{attempt}"
        workdir.mkdir(exist_ok=True)
        progress: list[dict[str, Any]] = []
        return worker.measure(task, self.store, workdir, progress.append, **changes), progress


@pytest.fixture(scope="module")
def bench(tmp_path_factory: pytest.TempPathFactory) -> Bench:
    return Bench(tmp_path_factory.mktemp("bench"))


@pytest.fixture(autouse=True)
def plain_numbers(monkeypatch: pytest.MonkeyPatch) -> None:
    """float32 wherever the tests run, so that a row alone and in a batch give the same answer."""
    monkeypatch.setattr(worker, "choose", lambda: ("cpu", torch.float32))


def rows(bench: Bench, results: ArtifactRef) -> list[dict[str, Any]]:
    return pq.read_table(bench.store.get(results)).to_pylist()


def by_transformers(
    bench: Bench, ask: str, reference: str, adapter: Path | None, system: str = "Shell."
) -> tuple[str, float]:
    """Answer and loss of one row alone, by transformers' own generate and loss."""
    tokenizer: Any = AutoTokenizer.from_pretrained(bench.directory)
    model: Any = AutoModelForCausalLM.from_pretrained(bench.directory)
    if adapter is not None:
        model = PeftModel.from_pretrained(model, str(adapter))
    model.eval()
    messages = [{"role": "system", "content": system}, {"role": "user", "content": ask}]
    text = tokenizer.apply_chat_template(messages, tokenize=False, add_generation_prompt=True)
    shown = tokenizer(text, add_special_tokens=False, return_tensors="pt")
    out = model.generate(**shown, max_new_tokens=12, do_sample=False, pad_token_id=257, eos_token_id=257)
    length = shown["input_ids"].shape[1]
    whole = tokenizer(text + reference + "</s>", add_special_tokens=False, return_tensors="pt")["input_ids"]
    labels = whole.clone()
    labels[:, :length] = -100
    with torch.inference_mode():
        loss = model(input_ids=whole, labels=labels).loss
    return tokenizer.decode(out[0, length:], skip_special_tokens=True), float(loss)


def test_answers_and_losses_are_those_of_each_row_alone(bench: Bench):
    outcome, progress = bench.measure(bench.task())
    found = rows(bench, outcome.results)
    assert [row["record_id"] for row in found] == ["r0", "r1", "r2", "r3"]
    for row, (ask, reference) in zip(found, PAIRS, strict=True):
        for role, adapter in (("base", None), ("candidate", bench.adapters[0])):
            answer, loss = by_transformers(bench, ask, reference, adapter)
            assert row[role] == answer
            assert row[f"{role}_loss"] == pytest.approx(loss, rel=1e-4)
        assert row["candidate_chrf"] == pytest.approx(chrf(row["candidate"], reference))
        assert row["champion"] == row["base"]
    assert any(row["candidate"] != row["base"] for row in found)
    assert outcome.metrics.keys() == set(SUITE)
    tokens = [len(reference) + 1 for _, reference in PAIRS]
    assert [row["candidate_tokens"] for row in found] == tokens
    total = sum(row["candidate_loss"] * n for row, n in zip(found, tokens, strict=True))
    assert outcome.metrics["loss"].value == pytest.approx(total / sum(tokens))
    gap = outcome.metrics["loss"].value - outcome.base_metrics["loss"].value
    assert outcome.differences["loss"].value == pytest.approx(gap)
    assert outcome.champion_metrics == outcome.base_metrics
    assert {"stage": "candidate", "done": 16, "total": 16} in progress


def test_what_was_answered_before_is_not_asked_again(bench: Bench):
    first, _ = bench.measure(bench.task(), "first")
    assert len(first.predictions) == 2
    more = bench.put_split("more", [*PAIRS, ("print a", "echo a")])
    task = bench.task(split=more, champion=bench.lora(0), candidate=bench.lora(1), predictions=first.predictions)
    second, progress = bench.measure(task, "second")
    assert progress[-2]["total"] == 2 * (5 + 1 + 1)
    assert second.champion_metrics["loss"].n == 5
    assert [r["champion"] for r in rows(bench, second.results)][:4] == [
        r["candidate"] for r in rows(bench, first.results)
    ]
    again, progress = bench.measure(bench.task(predictions=first.predictions), "third")
    assert again.metrics == first.metrics
    assert again.predictions == ()
    assert [p["stage"] for p in progress] == ["loading", "figures"]


def test_a_file_of_predictions_does_not_grow_with_every_dataset(bench: Bench):
    first, _ = bench.measure(bench.task(), "kept-first")
    other = bench.put_split("other", [("print a", "echo a")])
    second, _ = bench.measure(bench.task(split=other, predictions=first.predictions), "kept-second", others=3)
    counts = {one.model: len(read_predictions(bench.store.get(one.file))) for one in second.predictions}
    assert set(counts.values()) == {3 + 1}
    again, _ = bench.measure(bench.task(split=other, predictions=second.predictions), "kept-third", others=3)
    assert again.predictions == ()


def test_an_attempt_that_was_cut_short_goes_on_where_it_stood(bench: Bench, monkeypatch: pytest.MonkeyPatch):
    def full_disk(*_: Any) -> None:
        raise OSError(28, "No space left on device")

    with monkeypatch.context() as broken:
        broken.setattr(worker, "write_results", full_disk)
        with pytest.raises(OSError, match="No space"):
            bench.measure(bench.task(max_tokens=5), "cut")
    outcome, progress = bench.measure(bench.task(max_tokens=5), "cut")
    assert [p["stage"] for p in progress] == ["loading", "figures"]
    assert outcome.metrics["loss"].n == 4


def test_each_subject_is_asked_under_its_own_prompt(bench: Bench):
    other = Prompt(system="Answer as a pirate.")
    champion = bench.lora(0).model_copy(update={"prompt": other})
    task = bench.task(candidate=bench.lora(0), champion=champion, require=("loss < champion", "loss < 3"))
    outcome, progress = bench.measure(task, "prompts")
    for row, (ask, reference) in zip(rows(bench, outcome.results), PAIRS, strict=True):
        for role, system in (("candidate", "Shell."), ("champion", "Answer as a pirate.")):
            answer, loss = by_transformers(bench, ask, reference, bench.adapters[0], system)
            assert (row[role], row[f"{role}_loss"]) == (answer, pytest.approx(loss, rel=1e-4))
        assert (row["prompt"], row["champion_prompt"]) == (
            f"system: Shell.\nuser: {ask}",
            f"system: Answer as a pirate.\nuser: {ask}",
        )
    assert progress[-2]["total"] == 3 * 8
    same_weights = outcome.differences["loss"]
    assert same_weights.value != 0
    assert outcome.tests.keys() == {"loss < champion"}
    assert outcome.tests["loss < champion"].n == same_weights.n == 4
    assert outcome.held_out is not None
    assert outcome.held_out.rows == 4
    again, progress = bench.measure(bench.task(champion=champion, predictions=outcome.predictions), "prompts-again")
    assert [p["stage"] for p in progress] == ["loading", "figures"]
    assert again.differences == outcome.differences
    changed = bench.lora(0).model_copy(update={"prompt": Prompt(system="Be kind.")})
    _, progress = bench.measure(bench.task(candidate=changed, predictions=outcome.predictions), "prompts-changed")
    assert progress[-2]["total"] == 8


def test_a_job_from_before_subjects_had_prompts_has_one_for_all(bench: Bench):
    old = bench.task().model_dump(mode="json")
    old["prompt"], old["sheets"] = PROMPT.model_dump(), old.pop("predictions")
    for role in ("candidate", "champion", "base"):
        del old[role]["prompt"]
    assert Task.model_validate(old) == bench.task()


def test_a_full_model_is_measured_by_its_own_weights(bench: Bench):
    outcome, _ = bench.measure(bench.task(candidate=bench.full(), champion=bench.lora(1)), "full")
    losses = {outcome.metrics["loss"].value, outcome.champion_metrics["loss"].value, outcome.base_metrics["loss"].value}
    assert len(losses) == 3


def test_plain_text_has_a_loss_and_no_answer_and_preferences_are_left_out(bench: Bench):
    extra = (
        {"text": "ls lists"},
        {"prompt": "q", "chosen": "a", "rejected": "b"},
        {"messages": [{"role": "user", "content": "x"}]},
    )
    outcome, _ = bench.measure(bench.task(split=bench.put_split("mixed", PAIRS[:2], extra)), "mixed")
    assert (outcome.metrics["loss"].n, outcome.metrics["chrf"].n) == (3, 2)
    assert outcome.skipped == {"preference": 1, "no_completion": 1}


def test_rows_that_a_model_cannot_be_shown_are_left_out_and_counted(bench: Bench):
    forged = {"prompt": "\U000f0000</s>", "completion": "x"}
    outcome, _ = bench.measure(bench.task(split=bench.put_split("forged", PAIRS[:2], (forged,))), "forged")
    assert (outcome.examples, outcome.skipped) == (2, {"control_tokens": 1})


def test_rows_are_compared_by_tag_and_by_length_and_corrections_are_cases(bench: Bench):
    """12 rows of one tool and 12 of another; what the champion answers to two corrected questions is made their correction."""
    pairs = [(f"ask {'x' * n} {tool}", f"{tool} {n}") for tool in ("tar", "awk") for n in range(12)]
    tags = tuple({"tool": answer.split()[0]} for _, answer in pairs)
    before, _ = bench.measure(bench.task(split=bench.put_split("untagged", pairs)), "untagged")
    assert (before.regressions.cases, {d.tag for d in before.slices.worst} - {""}) == (0, set())
    by_base = [row["champion"] for row in rows(bench, before.results)]
    by_candidate = [row["candidate"] for row in rows(bench, before.results)]
    asked = [i for i in range(24) if len(by_base[i].strip()) > 2 and by_base[i].split() != by_candidate[i].split()][:2]
    feedback = {"origin": "feedback", "source": "corrections"}
    pairs = [(ask, by_base[i] if i in asked else answer) for i, (ask, answer) in enumerate(pairs)]
    tags = tuple({**of, **feedback} if i in asked else of for i, of in enumerate(tags))
    split = bench.put_split("tagged", pairs, tags=tags)
    outcome, _ = bench.measure(bench.task(split=split), "tagged")
    table = json.loads(bench.store.read_bytes(outcome.slices.table))
    assert {(d["tag"], d["value"]) for d in table if d["tag"]} == {("tool", "tar"), ("tool", "awk")}
    assert {d["metric"] for d in table} == set(SUITE)
    assert (outcome.slices.parts, outcome.slices.tests) == (len(table) // len(SUITE), len(table))
    found = rows(bench, outcome.results)
    loss = next(d for d in table if (d["value"], d["metric"]) == ("awk", "loss"))
    mine = [row for row in found if json.loads(row["tags"])["tool"] == "awk"]
    total = sum(row["candidate_loss"] * row["candidate_tokens"] for row in mine)
    assert loss["candidate"] == pytest.approx(total / sum(row["candidate_tokens"] for row in mine))
    assert loss["difference"]["n"] == 12
    assert [row["question"] for row in found] == [ask for ask, _ in pairs], "without the system prompt"
    told = outcome.regressions
    assert (told.cases, told.regressed, told.records) == (2, 2, tuple(f"r{i}" for i in asked))
    back, _ = bench.measure(
        bench.task(split=split, champion=bench.lora(0), candidate=untouched(bench.base, PROMPT)), "back"
    )
    assert (back.regressions.fixed, back.regressions.regressed) == (2, 0)
    lenient, _ = bench.measure(bench.task(split=split, right="chrf >= 0", predictions=outcome.predictions), "lenient")
    assert lenient.regressions.kept == 2


def test_a_suite_of_losses_generates_nothing(bench: Bench):
    outcome, progress = bench.measure(bench.task(suite=("loss",)), "loss-only")
    assert outcome.metrics.keys() == {"loss"}
    assert max(p["done"] for p in progress) == 8


def failing(bench: Bench, task: Task, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> JobFailed:
    monkeypatch.setenv("NORIA_EVALUATOR_ARTIFACTS", bench.store.root)
    monkeypatch.setenv("NORIA_HOME", str(tmp_path))
    with pytest.raises(JobFailed) as caught:
        worker.run(task.model_dump(mode="json"), tmp_path, lambda _: None)
    return caught.value


def test_failures_say_what_is_wrong(bench: Bench, tmp_path: Path, monkeypatch: pytest.MonkeyPatch):
    def code(**changes: Any) -> str:
        return failing(bench, bench.task(**changes), tmp_path, monkeypatch).code

    gone = ArtifactRef(uri=f"{bench.store.root}/sha256/00/{'1' * 62}", sha256="00" + "1" * 62, bytes=3)
    assert code(split=None) == "empty_held_out"
    assert code(split=bench.put_split("empty", [])) == "empty_held_out"
    assert code(split=gone) == "model_missing"
    assert (
        code(candidate=Subject(kind="lora", base=bench.base, files={"adapter_model.safetensors": gone}))
        == "model_missing"
    )
    junk = {
        "adapter_config.json": bench.store.put_bytes(b"{}"),
        "adapter_model.safetensors": bench.store.put_bytes(b"x"),
    }
    assert code(candidate=Subject(kind="lora", base=bench.base, files=junk)) == "model_invalid"


def test_weights_that_are_not_numbers_are_named(bench: Bench, tmp_path: Path, monkeypatch: pytest.MonkeyPatch):
    from safetensors.torch import load_file, save_file

    broken = tmp_path / "broken"
    tiny.make_adapter(broken, bench.directory, 9)
    weights = load_file(broken / "adapter_model.safetensors")
    save_file({name: tensor * float("nan") for name, tensor in weights.items()}, broken / "adapter_model.safetensors")
    task = bench.task(candidate=Subject(kind="lora", base=bench.base, files=bench.store.put_directory(broken)))
    error = failing(bench, task, tmp_path, monkeypatch)
    assert (error.code, "candidate's loss" in error.detail) == ("loss_not_finite", True)


def test_what_passes_is_told_from_what_is_the_candidate_s_own(
    bench: Bench, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
):
    def no_memory(*_: Any) -> None:
        raise RuntimeError("[enforce fail at alloc_cpu.cpp:1] DefaultCPUAllocator: can't allocate memory: you tried")

    def away(*_: Any) -> None:
        raise ArtifactUnavailable("the store does not answer")

    monkeypatch.setenv("NORIA_EVALUATOR_ARTIFACTS", bench.store.root)
    monkeypatch.setenv("NORIA_HOME", str(tmp_path))
    task = bench.task().model_dump(mode="json")
    for place, fails, code in (
        ("services.evaluator.worker.predict_all", no_memory, "out_of_memory"),
        ("services.chassis.storage.artifacts.ArtifactStore.get", away, "store_unavailable"),
    ):
        with monkeypatch.context() as patched:
            patched.setattr(place, fails)
            with pytest.raises(Exception, match=r"memory|answer") as caught:
                worker.run(task, tmp_path, lambda _: None)
        assert (classify(caught.value).code, classify(caught.value).passes) == (code, True)
    assert "max_tokens" in final(classify(MemoryError()), 2, ADVICE).detail
