"""What is said of the example's figures: how they came about, what each version is, which are compared."""

import argparse
import json
import platform
import subprocess
from collections.abc import Sequence
from datetime import UTC, datetime
from pathlib import Path
from typing import Any

from contracts.types import ArtifactRef
from services.chassis.settings import Settings
from services.chassis.storage.artifacts import open_store
from services.cli.from_zero import users
from services.cli.from_zero.results import Told
from services.cli.from_zero.wheel import Version
from services.cli.output import text

Json = dict[str, Any]
RUN = (
    "`scripts/examples from-zero` of commit {commit} on {day:%Y-%m-%d}, {machine}: {minutes:.0f} minutes. Written by the run; "
    "the project file is [project.yaml](examples/from-zero/project.yaml)."
)
SETTING = """The project `{project}` began without a record. {users.USERS} simulated users asked {options.requests} questions a \
turn through the openai client, {asked} different ones in random order, and said what they thought: \
{users.CORRECTS:.0%} of the wrong answers were corrected, the others got a thumb, up if chrF was {users.GOOD:g} or \
more; right answers a thumb up. {users.LIARS:.0%} of the users said the contrary. The wheel turned {turns} times by \
itself, and the gate promoted {promoted}. Figures go from 0 to 100, with 95% intervals, on {options.unseen} questions \
that nobody asked, answered greedily by the gateway. What the gate had rejected was put into service by hand, to be \
measured."""


def conversations(dataset: Json) -> list[Json]:
    """Every conversation of a dataset, of all its parts, as records to submit again; pairs and labels are left out."""
    from pyarrow import parquet

    store, found = open_store(Settings()), list[Json]()
    for ref in dataset["files"].values():
        file = store.get(ArtifactRef.model_validate(ref))
        for row in parquet.read_table(file, columns=["record_id", "record", "tags"]).to_pylist():
            record = json.loads(row["record"])
            if "messages" in record:
                found.append({"record_id": row["record_id"], "tags": json.loads(row["tags"]), "record": record})
    return found


def words(version: Version) -> str:
    """What a version is: its dataset and how the gate judged it."""
    counts = text(version.dataset["counts"])
    if version.promoted:
        return f"of {counts}; promoted"
    failed = "; ".join(version.decided.get("failed") or []) or version.decided.get("detail") or ""
    return f"of {counts}; rejected: {failed}".rstrip(": ")


def pairs(versions: Sequence[Version], control: bool) -> list[tuple[str, str]]:
    """Each version against the base and the one before, the last against the control."""
    names = ["base", *(f"version {v.number}" for v in versions)]
    found = [(name, "base") for name in names[1:]]
    found += list(zip(names[2:], names[1:], strict=False))
    return found + ([(names[-1], "control")] if control else [])


def told(options: argparse.Namespace, project: str, versions: Sequence[Version], asked: int, seconds: float) -> Told:
    """The page's head: what was done, on which machine, with which commit."""
    run = RUN.format(commit=commit(), day=datetime.now(UTC), machine=machine(), minutes=seconds / 60)
    setting = SETTING.format(
        project=project,
        users=users,
        asked=asked,
        options=options,
        turns=len(versions),
        promoted=sum(version.promoted for version in versions),
    )
    return Told("From zero: what feedback alone made of a model", (run, setting))


def commit() -> str:
    """The commit that ran, marked where files differ from it."""
    command = ["git", "-C", str(Path(__file__).parent), "describe", "--always", "--dirty", "--exclude=*"]
    done = subprocess.run(command, capture_output=True, text=True, check=False)
    return done.stdout.strip() or "unknown"


def machine() -> str:
    """Processor and cores that this process may use."""
    from services.lm.device import cores

    try:
        lines = Path("/proc/cpuinfo").read_text(encoding="utf-8").splitlines()
        name = next(line.split(":", 1)[1].strip() for line in lines if line.startswith("model name"))
    except (OSError, StopIteration):
        name = platform.processor() or platform.machine()
    return f"{name}, {cores()} cores"
