"""A freeze, in a process of its own: reads the records, runs the steps, writes files to the artifact store.

Changes nothing in the database: the service takes the result in.
"""

import contextlib
import json
from collections.abc import Callable, Iterable
from datetime import UTC, datetime
from pathlib import Path
from typing import Any

from sqlmodel import Session

from contracts.project import ProjectSpec
from contracts.types import ArtifactRef
from services.chassis.errors import ArtifactMissing, JobFailed
from services.chassis.storage.artifacts import ArtifactStore, open_store
from services.chassis.storage.database import open_engine, reading
from services.prep import parquet, tokens
from services.prep.domain import pipeline
from services.prep.domain.positions import Positions
from services.prep.domain.profile import profile
from services.prep.domain.report import page
from services.prep.domain.rows import DROPS, SPLITS, Accepted
from services.prep.domain.splits import grew
from services.prep.settings import PrepSettings
from services.prep.store import SqlStore

MOST_DATASETS = 10_000
"""Of a project's newest ones that are looked at."""
Report = Callable[[dict[str, Any]], None]


def run(spec: dict[str, Any], workdir: Path, report: Report) -> dict[str, Any]:
    """The dataset of a project's records: version, counts, drops and references to its files.

    Raises:
        JobFailed: `empty_dataset`, or `unknown_project` where the revision is not known.
    """
    settings = PrepSettings()
    report({"stage": "reading"})
    project, records, through, earlier = read(settings, spec["project"], spec["revision"])
    report({"stage": "preparing", "records": len(records)})
    dataset = pipeline.freeze(records, project.prep, trained(earlier, open_store(settings)))
    if not dataset.counts()["train"]:
        raise JobFailed("empty_dataset", nothing_left(dataset))
    result = {"version": dataset.version, "through": through}
    if dataset.version == spec["newest"]:
        return result
    report({"stage": "writing", "rows": len(dataset.rows)})
    files = write(dataset, records, project, settings, workdir)
    return result | files | {"counts": dataset.counts(), "drops": dataset.drops_by_reason()}


def read(
    settings: PrepSettings, project: str, revision: str
) -> tuple[ProjectSpec, list[Accepted], Positions, list[ArtifactRef]]:
    """The project, its records, up to where they are all there, and earlier training splits that hold what stays in train."""
    with reading(open_engine(settings)) as connection, Session(connection) as session:
        store = SqlStore(session)
        spec = store.projects.at(project, revision)
        if spec is None:
            raise JobFailed("unknown_project", f"revision {revision} of project {project!r} is not known here")
        return spec, *store.accepted(project), with_smaller_shares(store, spec)


def with_smaller_shares(store: SqlStore, spec: ProjectSpec) -> list[ArtifactRef]:
    """Training splits of the project's datasets that were frozen with a smaller held-out or validation share than today's."""
    datasets = store.datasets(spec.project, None, MOST_DATASETS)
    revisions = {
        revision: store.projects.at(spec.project, revision) for revision in {d.project_revision for d in datasets}
    }
    grown = {revision for revision, then in revisions.items() if grew(spec.prep, then and then.prep)}
    return [ArtifactRef.model_validate(d.files["train"]) for d in datasets if d.project_revision in grown]


def trained(splits: Iterable[ArtifactRef], artifacts: ArtifactStore) -> frozenset[str]:
    """The prompt keys of training splits; one that was collected since tells nothing."""
    keys: set[str] = set()
    for split in splits:
        with contextlib.suppress(ArtifactMissing):
            keys |= parquet.prompt_keys(artifacts.get(split))
    return frozenset(keys)


def nothing_left(dataset: pipeline.Dataset) -> str:
    """Why there is nothing to train on and what to do."""
    total = len(dataset.rows) + len(dataset.drops)
    drops = ", ".join(f"{n} {reason}" for reason, n in dataset.drops_by_reason().items()) or "none dropped"
    splits = ", ".join(f"{n} {split}" for split, n in dataset.counts().items())
    return f"nothing is left to train on of {total} records ({splits}; {drops}); send more records or change `prep`"


def write(
    dataset: pipeline.Dataset, records: list[Accepted], project: ProjectSpec, settings: PrepSettings, workdir: Path
) -> dict[str, Any]:
    """Stores the parts, what was left out, the profile and its page; gives their references and the time."""
    artifacts = open_store(settings)
    files = {split: _part(dataset, split, workdir, artifacts) for split in SPLITS}
    drops = workdir / f"{DROPS}.parquet"
    parquet.write_drops(dataset.drops, records, drops)
    files[DROPS] = _plain(artifacts.put_file(drops))
    count, unit = tokens.counter(project.base, settings.cache)
    found = profile(dataset, count, unit, settings.profile_rows)
    text = json.dumps(found, ensure_ascii=False, indent=1)
    return {
        "files": files,
        "profile": _plain(artifacts.put_bytes(text.encode())),
        "report": _plain(artifacts.put_bytes(page(project.project, found).encode())),
        "frozen_at": datetime.now(UTC).isoformat(),
    }


def _part(dataset: pipeline.Dataset, split: Any, workdir: Path, artifacts: ArtifactStore) -> dict[str, Any]:
    path = workdir / f"{split}.parquet"
    parquet.write(dataset.split(split), path)
    return _plain(artifacts.put_file(path))


def _plain(ref: ArtifactRef) -> dict[str, Any]:
    return ref.model_dump(mode="json")
