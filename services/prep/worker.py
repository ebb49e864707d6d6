"""A freeze, in a process of its own: reads the records, runs the steps, writes files to the artifact store.

Changes nothing in the database: the service takes the result in.
"""

import contextlib
import json
import shutil
from collections.abc import Callable, Iterable, Mapping, Sequence
from datetime import UTC, datetime
from functools import partial
from pathlib import Path
from tempfile import TemporaryDirectory
from typing import Any

import numpy as np
import pyarrow as pa
from sqlmodel import Session

from contracts.project import ProjectSpec
from contracts.steps import Toxicity
from contracts.types import ArtifactRef
from services.chassis.errors import ArtifactMissing, JobFailed
from services.chassis.storage.artifacts import ArtifactStore, open_store
from services.chassis.storage.database import open_engine
from services.prep import dataset, engine, evaluation_sets, parquet, source, tokens
from services.prep.domain import pipeline, toxicity
from services.prep.domain.frame import CountTokens, Frame, Outcome
from services.prep.domain.measure import FURTHER, RAW, TOGETHER, measure, measured
from services.prep.domain.positions import Positions
from services.prep.domain.splits import grew
from services.prep.profiling.embedder import open_embedder
from services.prep.profiling.page import page
from services.prep.profiling.profile import profile
from services.prep.settings import PrepSettings
from services.prep.spool import Spool
from services.prep.store import SqlStore

MOST_DATASETS = 10_000
"""Of a project's newest ones that are looked at."""
Report = Callable[[dict[str, Any]], None]


def run(spec: dict[str, Any], workdir: Path, report: Report) -> dict[str, Any]:
    """The dataset of a project's records: version, counts, drops, kinds and references to its files.

    Raises:
        JobFailed: `empty_dataset`, `unknown_project` where the revision is not known, `unknown_step`, `no_classifier`.
    """
    with TemporaryDirectory(dir=workdir) as folder:
        return freeze(spec, Path(folder), report, PrepSettings())


def freeze(spec: dict[str, Any], folder: Path, report: Report, settings: PrepSettings) -> dict[str, Any]:
    """As `run`, in an empty folder."""
    engine.start(settings.ray_address)
    report({"stage": "reading"})
    artifacts = open_store(settings)
    project, through, earlier, records, sets = read(
        settings, spec["project"], spec["revision"], artifacts, folder / "raw"
    )
    rows, size = records.rows, records.size
    report({"stage": "preparing", "records": rows})
    prep = project.prep
    spool = Spool(folder / "spool", rows, size, prep)
    if rows:
        further = [name for name in pipeline.texts(prep) if name in FURTHER or name in TOGETHER]
        function = partial(measure, further=further)
        found = engine.mapped(records.paths, RAW.names, function, ["format", "record"], measured(further), rows, size)
        spool.fill(found, pipeline.texts(prep))
    shutil.rmtree(folder / "raw")
    frame, row_of = spool.frame(trained(earlier, prep.split.by, artifacts))
    means = pipeline.Means(engine.minhash, counting(project, settings), evaluation_sets.words(sets, artifacts))
    outcome = pipeline.freeze(frame, prep, means)
    counts, drops = outcome.counts(frame), outcome.drops_by_reason()
    if not counts["train"]:
        raise JobFailed("empty_dataset", nothing_left(frame, outcome))
    report({"stage": "writing", "rows": sum(counts.values())})
    made = dataset.write(spool.records, row_of, frame, outcome, prep, folder)
    result = {"version": made.version, "through": through, "segments": {"made": records.made, "gone": records.gone}}
    if made.version == spec["newest"]:
        return result
    return (
        result
        | write(made, project, settings, sets)
        | {"counts": counts, "drops": drops, "kinds": outcome.kinds(frame)}
    )


def read(
    settings: PrepSettings, project: str, revision: str, artifacts: ArtifactStore, folder: Path
) -> tuple[ProjectSpec, Positions, list[ArtifactRef], source.Source, dict[str, list[ArtifactRef]]]:
    """Has the project's records in files, new ones in the folder.

    Gives the project, up to where its records are all there, earlier training splits with what stays in train, the files, and
    those of other datasets that its steps name.
    """
    with source.snapshot(open_engine(settings)) as connection, Session(connection) as session:
        store = SqlStore(session)
        spec = store.projects.at(project, revision)
        if spec is None:
            raise JobFailed("unknown_project", f"revision {revision} of project {project!r} is not known here")
        sets = evaluation_sets.find(named(spec), store)
        check_classifier(spec)
        records = source.read(connection, project, artifacts, folder, settings.segment_rows)
        return spec, store.positions(project), that_may_move(store, spec), records, sets


def named(spec: ProjectSpec) -> list[str]:
    """The other datasets that the project's steps name.

    Raises:
        JobFailed: `unknown_step`.
    """
    try:
        return pipeline.against(spec.prep)
    except pipeline.UnknownStep as error:
        raise JobFailed("unknown_step", str(error)) from error


def check_classifier(spec: ProjectSpec) -> None:
    """Raises JobFailed `no_classifier` where a step asks for one that is not installed."""
    if pipeline.asks(spec.prep, Toxicity) and not toxicity.is_there():
        raise JobFailed(
            "no_classifier",
            "the step toxicity asks for a classifier; install prep with it: pip install 'noria[toxicity]'",
        )


def that_may_move(store: SqlStore, spec: ProjectSpec) -> list[ArtifactRef]:
    """Training splits of the project's datasets whose rows may fall elsewhere by today's rules."""
    datasets = store.datasets(spec.project, None, MOST_DATASETS)
    revisions = {
        revision: store.projects.at(spec.project, revision) for revision in {d.project_revision for d in datasets}
    }
    grown = {revision for revision, then in revisions.items() if grew(spec.prep, then and then.prep)}
    return [ArtifactRef.model_validate(d.files["train"]) for d in datasets if d.project_revision in grown]


def trained(splits: Iterable[ArtifactRef], by: str, artifacts: ArtifactStore) -> Any:
    """The keys of training splits as parquet.group_keys has them; one that was collected since tells nothing."""
    keys = [np.empty(0, np.uint64)]
    for split in splits:
        with contextlib.suppress(ArtifactMissing):
            keys.append(parquet.group_keys(artifacts.get(split), by))
    return np.unique(np.concatenate(keys))


def counting(project: ProjectSpec, settings: PrepSettings) -> CountTokens:
    """What counts the tokens that steps ask for.

    Raises:
        JobFailed: `no_tokenizer` where some do and the base's tokenizer is not here: words are no tokens.
    """
    count, unit = tokens.counter(project.base, settings.cache)
    if unit == tokens.FALLBACK and pipeline.counts_tokens(project.prep):
        wanted = f"min_tokens and max_tokens count tokens of {project.base!r}, whose tokenizer.json is not here"
        raise JobFailed(
            "no_tokenizer", f"{wanted}; put the base under NORIA_CACHE/bases, or say the lengths in characters"
        )
    return count


def nothing_left(frame: Frame, outcome: Outcome) -> str:
    """Why there is nothing to train on and what to do."""
    drops = ", ".join(f"{n} {reason}" for reason, n in outcome.drops_by_reason().items()) or "none dropped"
    splits = ", ".join(f"{n} {split}" for split, n in outcome.counts(frame).items())
    left = f"nothing is left to train on of {len(frame)} records ({splits}; {drops})"
    if outcome.emptied_by is not None:
        step, rows = outcome.emptied_by
        examples = ", ".join(frame.record_ids.take(pa.array(rows)).to_pylist())
        left += f"; the step {step} left out the last of them, for example {examples}"
    return f"{left}; send more records or change `prep`"


def write(
    made: dataset.Dataset, project: ProjectSpec, settings: PrepSettings, sets: Mapping[str, Sequence[ArtifactRef]]
) -> dict[str, Any]:
    """Stores the parts, the profile and its page; gives their references and the time. `sets`: as `read` gives them."""
    artifacts = open_store(settings)
    files = {name: _plain(artifacts.put_file(path)) for name, path in made.files.items()}
    count, unit = tokens.counter(project.base, settings.cache)
    embed = open_embedder(settings.cache, settings.profile_topic_tokens)
    against = evaluation_sets.paths(sets, artifacts)
    found = profile(made.files, made.version, count, unit, settings.profile_rows, embed, against)
    text = json.dumps(found, ensure_ascii=False, indent=1)
    return {
        "files": files,
        "profile": _plain(artifacts.put_bytes(text.encode())),
        "report": _plain(artifacts.put_bytes(page(project.project, found).encode())),
        "frozen_at": datetime.now(UTC).isoformat(),
    }


def _plain(ref: ArtifactRef) -> dict[str, Any]:
    return ref.model_dump(mode="json")
