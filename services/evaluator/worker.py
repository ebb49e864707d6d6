"""Measures one candidate, its champion and their base on a split; runs as the job's child process. Knows no Kafka and no SQL."""

import time
from collections.abc import Callable, Mapping, Sequence
from hashlib import sha256
from math import isfinite
from pathlib import Path
from typing import Any

from contracts.types import Files
from services.chassis.errors import ArtifactError, JobFailed, JobStopped
from services.chassis.storage.artifacts import ArtifactStore, open_store
from services.evaluator.compute.ask import Asking, Wanted, ask_all
from services.evaluator.compute.rows import read
from services.evaluator.compute.tables import read_sheet, write_results, write_sheet
from services.evaluator.domain.failures import EmptyHeldOut, LossNotFinite, ModelMissing, classify
from services.evaluator.domain.metrics import ON_ANSWERS
from services.evaluator.domain.predictions import (
    BatchResult,
    Example,
    differences,
    figures,
    metrics,
    missing,
    settings_key,
)
from services.evaluator.domain.task import Outcome, SheetRef, Subject, Task
from services.evaluator.settings import EvaluatorSettings
from services.lm.device import choose

Report = Callable[[dict[str, Any]], None]


def run(spec: dict[str, Any], workdir: Path, report: Report) -> dict[str, Any]:
    """The job's entry: a Task as JSON in, an Outcome as JSON out; reports {stage, done, total}.

    Raises:
        JobFailed: with a code of domain/failures.py.
    """
    try:
        outcome = measure(Task.model_validate(spec), open_store(EvaluatorSettings()), workdir, report)
    except JobStopped:
        raise
    except ArtifactError as error:
        raise JobFailed(ModelMissing.code, str(error)) from error
    except Exception as error:
        failure = classify(error)
        raise JobFailed(failure.code, str(failure)) from error
    return outcome.model_dump(mode="json")


def measure(task: Task, store: ArtifactStore, workdir: Path, report: Report) -> Outcome:
    """The figures of a task; sheets in `workdir` from an attempt that was cut short are used again.

    Raises:
        EvaluationFailed: one of its tree.
        ArtifactError: an artifact is not to be had.
    """
    started = time.monotonic()
    report({"stage": "loading", "done": 0, "total": 0})
    examples, skipped = _examples(task, store)
    roles = {"base": task.base, "champion": task.champion, "candidate": task.candidate}
    device, dtype = choose()
    settings = settings_key(task.max_tokens, str(dtype).removeprefix("torch."), device)
    sheets = {subject.key: _known(subject, settings, task, store, workdir) for subject in roles.values()}
    wanted = _wanted(roles, sheets, examples, task.suite)

    def keep(subject: Subject, sheet: BatchResult) -> None:
        sheets[subject.key] |= sheet
        write_sheet(_file(workdir, subject, settings), sheets[subject.key])

    asking = Asking(task.suite, task.max_tokens, device, dtype, _progress(wanted, task.suite, report))
    threads = ask_all(wanted, asking, lambda files: _place(files, store, workdir), keep)
    asked = time.monotonic() - started
    report({"stage": "figures", "done": 0, "total": 0})
    fresh = [
        SheetRef(model=w.subject.key, settings=settings, file=store.put_file(_file(workdir, w.subject, settings)))
        for w in wanted
    ]
    return _outcome(task, examples, {role: sheets[s.key] for role, s in roles.items()}, store, workdir).model_copy(
        update={
            "sheets": tuple(fresh),
            "skipped": skipped,
            "computed": {"device": device, "dtype": str(dtype), "threads": threads},
            "seconds": {"models": round(asked, 3), "all": round(time.monotonic() - started, 3)},
        }
    )


def _outcome(
    task: Task, examples: Sequence[Example], sheets: Mapping[str, BatchResult], store: ArtifactStore, workdir: Path
) -> Outcome:
    """GatewayMetrics of full sheets, by role, with the file of results in the store."""
    values = {role: figures(examples, sheet, task.suite) for role, sheet in sheets.items()}
    for role, column in values.items():
        _refuse_not_finite(role, column.get("loss", []), examples)
    results = workdir / "results.parquet"
    write_results(results, examples, sheets, values)
    return Outcome(
        metrics=metrics(values["candidate"]),
        champion_metrics=metrics(values["champion"]),
        base_metrics=metrics(values["base"]),
        differences=differences(values["candidate"], values["champion"]),
        results=store.put_file(results),
        examples=len(examples),
    )


def _examples(task: Task, store: ArtifactStore) -> tuple[list[Example], dict[str, int]]:
    if task.split is None:
        raise EmptyHeldOut("the dataset has no held-out split; set prep.held_out above 0 and freeze again")
    examples, skipped = read(store.get(task.split), task.prompt)
    if not examples:
        left_out = ", ".join(f"{n} {reason}" for reason, n in skipped.items()) or "it has no rows"
        raise EmptyHeldOut(
            f"no row of the held-out split can be measured ({left_out}); submit more records with answers, or raise prep.held_out"
        )
    return examples, skipped


def _known(subject: Subject, settings: str, task: Task, store: ArtifactStore, workdir: Path) -> BatchResult:
    """What the model answered before: in earlier evaluations, and in an attempt of this one that was cut short."""
    refs = [s.file for s in task.sheets if (s.model, s.settings) == (subject.key, settings)]
    paths = [*(store.get(ref) for ref in refs), _file(workdir, subject, settings)]
    return {key: entry for path in paths if path.exists() for key, entry in read_sheet(path).items()}


def _file(workdir: Path, subject: Subject, settings: str) -> Path:
    name = sha256(f"{subject.key} {settings}".encode()).hexdigest()[:32]
    return workdir / f"sheet-{name}.parquet"


def _wanted(
    roles: Mapping[str, Subject], sheets: Mapping[str, BatchResult], examples: Sequence[Example], suite: Sequence[str]
) -> list[Wanted]:
    """What each distinct model lacks; a champion that is the base is asked once."""
    distinct = {subject.key: (role, subject) for role, subject in reversed(list(roles.items()))}
    lacks = {key: missing(examples, sheets[key], suite) for key in distinct}
    return [
        Wanted(role, subject, [examples[i] for i in lacks[key]])
        for key, (role, subject) in distinct.items()
        if lacks[key]
    ]


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
