"""Measures one candidate, its champion and their base on a split; runs as the job's child process. Knows no Kafka."""

import time
from collections.abc import Callable, Mapping, Sequence
from hashlib import sha256
from math import isfinite
from pathlib import Path
from typing import Any

from contracts.gate import parse
from contracts.types import Files
from services.chassis.errors import ArtifactError, ArtifactUnavailable
from services.chassis.storage.artifacts import ArtifactStore, open_store
from services.evaluator.compute.ask import GenerationSettings, Wanted, predict_all
from services.evaluator.compute.model import open_text
from services.evaluator.compute.rows import as_shown, read
from services.evaluator.domain.failures import EmptyHeldOut, LossNotFinite, ModelMissing
from services.evaluator.domain.predictions import (
    Example,
    Predictions,
    differences,
    held_out,
    kept,
    metrics,
    missing,
    paired_tests,
    scores,
    settings_key,
)
from services.evaluator.domain.task import Outcome, PredictionsRef, Subject, Task
from services.evaluator.findings import compared_parts, lost_cases
from services.evaluator.judge.run import judged
from services.evaluator.settings import EvaluatorSettings
from services.evaluator.tables import read_predictions, write_predictions, write_results
from services.lm.device import choose
from services.lm.memory import keep_pages
from services.lm.scoring.metrics import ON_ANSWERS

Report = Callable[[dict[str, Any]], None]
Examples = Mapping[str, Sequence[Example]]
"""By role: candidate, champion, base."""


def run(spec: dict[str, Any], workdir: Path, report: Report) -> dict[str, Any]:
    """The job's entry: a Task as JSON in, an Outcome as JSON out; reports {stage, done, total}.

    Raises:
        JobFailed: with a code of domain/failures.py.
        ArtifactUnavailable, OSError, MemoryError, ...: what services.chassis.jobs.failures tells apart.
    """
    keep_pages()
    try:
        settings, task = EvaluatorSettings(), Task.model_validate(spec)
        store = open_store(settings)
        measured = measure(task, store, workdir, report, settings.predictions_examples)
        return judged(task, measured, store, settings, workdir, report).model_dump(mode="json")
    except ArtifactUnavailable:
        raise
    except ArtifactError as error:
        raise ModelMissing(str(error)) from error


def measure(task: Task, store: ArtifactStore, workdir: Path, report: Report, others: int = 20_000) -> Outcome:
    """The figures of a task; predictions in `workdir` from an attempt that was cut short are used again.

    `others`: of so many examples that this task does not ask about a model's earlier predictions are kept, too.

    Raises:
        EvaluationFailed: one of its tree.
        ArtifactError: an artifact is not to be had.
    """
    started = time.monotonic()
    report({"stage": "loading", "done": 0, "total": 0})
    subjects = {"base": task.base, "champion": task.champion, "candidate": task.candidate}
    examples, skipped = _examples(task, subjects, store, workdir)
    device, dtype = choose()
    settings = settings_key(task.max_tokens, str(dtype).removeprefix("torch."), device)
    known = {subject.model: _known(subject, settings, task, store, workdir) for subject in subjects.values()}
    wanted = _wanted(subjects, known, examples, task.suite)

    def keep(subject: Subject, found: Predictions) -> None:
        known[subject.model] |= found
        write_predictions(_file(workdir, subject.model, settings), known[subject.model])

    generation = GenerationSettings(task.suite, task.max_tokens, device, dtype, _progress(wanted, task.suite, report))
    threads = predict_all(wanted, generation, lambda files: _place(files, store, workdir), keep)
    asked = time.monotonic() - started
    report({"stage": "figures", "done": 0, "total": 0})
    fresh: list[PredictionsRef] = []
    for model in dict.fromkeys(subject.model for subject in subjects.values()):
        place = _file(workdir, model, settings)
        if place.exists():  # asked now, or by an attempt that was cut short
            write_predictions(place, kept(known[model], _asked(model, subjects, examples), others))
            fresh.append(PredictionsRef(model=model, settings=settings, file=store.put_file(place)))
    found = {role: known[subject.model] for role, subject in subjects.items()}
    return _outcome(task, examples, found, store, workdir).model_copy(
        update={
            "predictions": tuple(fresh),
            "skipped": skipped,
            "computed": {"device": device, "dtype": str(dtype), "threads": threads},
            "seconds": {"models": round(asked, 3), "all": round(time.monotonic() - started, 3)},
        }
    )


def _outcome(
    task: Task, examples: Examples, found: Mapping[str, Predictions], store: ArtifactStore, workdir: Path
) -> Outcome:
    """The figures of full predictions, by role, with the file of results in the store."""
    scored = {role: scores(examples[role], known, task.suite) for role, known in found.items()}
    for role, one in scored.items():
        _refuse_not_finite(role, one.values.get("loss", []), examples[role])
    results = workdir / "results.parquet"
    write_results(results, examples, found, scored)
    return Outcome(
        metrics=metrics(scored["candidate"]),
        champion_metrics=metrics(scored["champion"]),
        base_metrics=metrics(scored["base"]),
        differences=differences(scored["candidate"], scored["champion"]),
        results=store.put_file(results),
        examples=len(examples["candidate"]),
        slices=compared_parts(examples["candidate"], scored, store, workdir),
        regressions=lost_cases(examples, found, task.right),
        tests=paired_tests(scored["candidate"], scored["champion"], [parse(rule) for rule in task.require]),
        held_out=held_out(examples["candidate"]),
    )


def _examples(
    task: Task, subjects: Mapping[str, Subject], store: ArtifactStore, workdir: Path
) -> tuple[dict[str, list[Example]], dict[str, int]]:
    """The split's examples under each subject's prompt, in one order, and how many rows were left out by reason."""
    if task.split is None:
        raise EmptyHeldOut("the dataset has no held-out split; set prep.held_out above 0 and freeze again")
    path = store.get(task.split)
    splits = {role: read(path, subject.prompt) for role, subject in subjects.items()}
    skipped = splits["candidate"].skipped
    examples, refused = _shown(subjects, {role: of.examples for role, of in splits.items()}, store, workdir)
    for of in splits.values():
        refused |= of.refused
    skipped.update(refused.values())
    examples = {role: [x for i, x in enumerate(of) if i not in refused] for role, of in examples.items()}
    if not examples["candidate"]:
        left_out = ", ".join(f"{n} {reason}" for reason, n in skipped.items()) or "it has no rows"
        raise EmptyHeldOut(
            f"no row of the held-out split can be measured ({left_out}); submit more records with answers, or raise prep.held_out"
        )
    return examples, skipped


def _shown(
    subjects: Mapping[str, Subject], examples: Examples, store: ArtifactStore, workdir: Path
) -> tuple[dict[str, list[Example]], dict[int, str]]:
    """The examples as each subject has them, and the indices of those that one of them cannot be shown, with the reason.

    None of the subjects is measured on the latter.
    """
    shown: dict[str, list[Example]] = {}
    found: dict[int, str] = {}
    for role, subject in subjects.items():
        own = subject.files if subject.kind == "full" else subject.base.files
        shown[role], refused = as_shown(examples[role], open_text(_place(own, store, workdir)))
        found |= refused
    return shown, found


def _known(subject: Subject, settings: str, task: Task, store: ArtifactStore, workdir: Path) -> Predictions:
    """What the model predicted before: in earlier evaluations, and in an attempt of this one that was cut short."""
    refs = [one.file for one in task.predictions if (one.model, one.settings) == (subject.model, settings)]
    paths = [*(store.get(ref) for ref in refs), _file(workdir, subject.model, settings)]
    return {key: found for path in paths if path.exists() for key, found in read_predictions(path).items()}


def _asked(model: str, subjects: Mapping[str, Subject], examples: Examples) -> list[Example]:
    """What a model is asked about in all of its roles."""
    roles = [role for role, subject in subjects.items() if subject.model == model]
    return [example for role in roles for example in examples[role]]


def _file(workdir: Path, model: str, settings: str) -> Path:
    name = sha256(f"{model} {settings}".encode()).hexdigest()[:32]
    return workdir / f"predictions-{name}.parquet"


def _wanted(
    subjects: Mapping[str, Subject], known: Mapping[str, Predictions], examples: Examples, suite: Sequence[str]
) -> list[Wanted]:
    """What each distinct model lacks; a champion that is the base under the same prompt is asked once."""
    roles = {subject.model_dump_json(): role for role, subject in reversed(list(subjects.items()))}
    found: list[Wanted] = []
    for role in roles.values():
        subject, asked = subjects[role], examples[role]
        lacks = missing(asked, known[subject.model], suite)
        if lacks:
            found.append(Wanted(role, subject, [asked[i] for i in lacks]))
    return found


def _progress(wanted: Sequence[Wanted], suite: Sequence[str], report: Report) -> Callable[[str, int], None]:
    """Counts passes over examples: one for the loss, one for the answer."""
    passes = ("loss" in suite) + any(name in ON_ANSWERS for name in suite)
    total, so_far = passes * sum(len(one.examples) for one in wanted), 0

    def done(role: str, count: int) -> None:
        nonlocal so_far
        so_far += count
        report({"stage": role, "done": so_far, "total": total})

    return done


def _place(files: Files, store: ArtifactStore, workdir: Path) -> Path:
    digest = sha256("\n".join(f"{path} {ref.sha256}" for path, ref in sorted(files.items())).encode()).hexdigest()
    return store.materialise(files, workdir / "models" / digest[:32])


def _refuse_not_finite(role: str, column: Sequence[float | None], examples: Sequence[Example]) -> None:
    bad = [x.record_id for x, loss in zip(examples, column, strict=False) if loss is not None and not isfinite(loss)]
    if bad:
        raise LossNotFinite(
            f"the {role}'s loss is NaN or infinite on {len(bad)} examples, first {bad[0]!r}; train again"
        )
