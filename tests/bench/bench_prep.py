"""A freeze's speed and memory, and its near-duplicate stage against rensa and datatrove. Prints JSON.

python -m tests.bench.bench_prep [--records 200000] [--kind mixed] [--near 200000] [--others 20000]

The freeze runs as prep's job does, in a process of its own on SQLite; memory is the greatest sum of resident pages of it and its
children, which counts shared ones twice; CPU seconds are those of all of them, which tell more than the clock where others work
on the machine. Records are prompts of 8 to 80 words with completions; one prompt of ten nearly repeats another. `kind`: mixed
(uniform and Zipf vocabularies), or one that is hard to search: template (one schema of 120 words in each prompt), common (30
words in all prompts), one_word, zipf, uniform.

rensa (https://github.com/beowolx/rensa) by its Python interface and datatrove (https://github.com/huggingface/datatrove) by its
four minhash blocks on one core run in environments that uv makes for this run; where it can't, they are left out with a message.
"""

import argparse
import json
import multiprocessing
import os
import random
import resource
import subprocess
import sys
import tempfile
import time
from collections.abc import Iterator
from datetime import UTC, datetime
from pathlib import Path
from typing import Any

import numpy as np
import pyarrow as pa
from sqlmodel import Session

from contracts.events.registry import ProjectDefinedV1
from contracts.project import ProjectSpec
from services.chassis.storage.bulk.insert import insert, moment
from services.chassis.storage.database import open_engine, writing
from services.chassis.storage.migration import migrate
from services.prep import handlers, worker
from services.prep.domain import near_duplicates
from services.prep.domain.frame import Frame, Texts
from services.prep.settings import PrepSettings
from services.prep.store import COLUMNS, NEWER, RECORD, SqlStore

KINDS = ("mixed", "uniform", "zipf", "common", "one_word", "template")
VOCABULARY = [f"word{i}" for i in range(30_000)]
OTHERS = Path(__file__).parent / "near_others.py"


def prompts(kind: str, count: int) -> Iterator[str]:
    dice = random.Random(1)
    kinds = {
        "uniform": lambda: dice.choices(VOCABULARY, k=dice.randint(8, 80)),
        "zipf": lambda: [VOCABULARY[min(29_999, int(dice.paretovariate(0.8)) - 1)] for _ in range(dice.randint(8, 80))],
        "common": lambda: dice.choices(VOCABULARY[:30], k=dice.randint(8, 80)),
        "one_word": lambda: ["a"] * dice.randint(1, 400),
        "template": lambda: [*VOCABULARY[:120], *dice.choices(VOCABULARY, k=dice.randint(6, 12))],
    }
    some: list[list[str]] = []
    for i in range(count):
        if some and dice.random() < 0.1:
            words = list(dice.choice(some))
            words[dice.randrange(len(words))] = dice.choice(VOCABULARY)
        else:
            words = kinds[kind if kind != "mixed" else ("uniform", "zipf")[i % 2]]()
        some = [*some[-999:], words]
        yield " ".join(words)


def fill(settings: PrepSettings, words: str, count: int) -> str:
    """Defines a project and accepts records; gives the revision."""
    engine = open_engine(settings)
    migrate(engine, "prep", Path(handlers.__file__).parent / "migrations")
    spec = ProjectSpec(project="p", base="none")
    defined = ProjectDefinedV1(project="p", revision="1" * 64, spec=spec)
    with writing(engine) as connection, Session(connection) as session:
        list(handlers.on_project_defined(defined, meta(), SqlStore(session)))
        session.flush()
    rows: list[tuple[Any, ...]] = []
    for i, prompt in enumerate(prompts(words, count)):
        record = json.dumps({"completion": f"answer {i} " + "text " * 20, "prompt": prompt}, separators=(",", ":"))
        kind = "prompt_completion"
        rows.append(("p", f"r{i:09}", 1, kind, record, "0" * 64, "{}", None, 0, 0, i + 1, None, None, kind))
        if len(rows) == 10_000 or i == count - 1:
            with writing(engine) as connection:
                at = moment(connection, datetime(2026, 1, 31, tzinfo=UTC))
                insert(connection, RECORD, COLUMNS, [(*row[:8], at, *row[9:]) for row in rows], NEWER)
            rows = []
    engine.dispose()
    return defined.revision


def meta() -> Any:
    from contracts.envelope import Meta

    return Meta(id="1", source="urn:bench", type="", time=datetime(2026, 1, 31, tzinfo=UTC))


def freeze(revision: str, workdir: Path, stages: Any) -> None:
    begun = time.perf_counter()
    spec = {"project": "p", "revision": revision, "newest": None}
    result = worker.run(spec, workdir, lambda told: stages.put((told["stage"], time.perf_counter() - begun)))
    stages.put(("end", time.perf_counter() - begun))
    stages.put(("result", {name: result[name] for name in ("counts", "drops")}))


def spent() -> float:
    """CPU seconds of all child processes that have ended, theirs included."""
    used = resource.getrusage(resource.RUSAGE_CHILDREN)
    return used.ru_utime + used.ru_stime


def resident(pid: int) -> int:
    """Bytes of a process and all below it."""
    try:
        own = int(Path(f"/proc/{pid}/statm").read_text().split()[1]) * os.sysconf("SC_PAGE_SIZE")
        tasks = Path(f"/proc/{pid}/task").iterdir()
        children = {child for task in tasks for child in (task / "children").read_text().split()}
    except OSError:
        return 0
    return own + sum(resident(int(child)) for child in children)


def frozen(kind: str, count: int) -> dict[str, Any]:
    """A freeze in a process of its own: seconds by stage and the greatest memory."""
    with tempfile.TemporaryDirectory() as folder:
        os.environ["NORIA_PREP_HOME"] = folder
        revision = fill(PrepSettings(), kind, count)
        context = multiprocessing.get_context("spawn")
        stages, before = context.Queue(), spent()
        process = context.Process(target=freeze, args=(revision, Path(folder), stages))
        process.start()
        greatest = 0
        told: dict[str, Any] = {}
        while "result" not in told and process.is_alive():
            greatest = max(greatest, resident(process.pid or 0))
            time.sleep(0.05)
            while not stages.empty():
                name, value = stages.get()
                told[name] = value
        process.join()
        cpu = spent() - before
    seconds = told["end"]
    return {
        "kind": kind,
        "records": count,
        "seconds": round(seconds, 1),
        "records_a_second": round(count / seconds),
        "cpu_seconds": round(cpu, 1),
        "peak_megabytes": round(greatest / 1e6),
        "until": {name: round(told[name], 1) for name in ("preparing", "writing")},
        **told["result"],
    }


def near_stage(kind: str, count: int) -> dict[str, Any]:
    """The stage alone, on prompts as the steps before it leave them."""
    from services.prep import engine

    engine.start(None)
    texts = pa.array(list(prompts(kind, count)))
    keys = np.random.default_rng(1).integers(0, 2**64, count, np.uint64)
    split = np.where(keys < 0.15 * 2.0**64, 2, 0).astype(np.int8)
    sizes = np.array([len(text) for text in texts.to_pylist()])

    def read(_: str) -> Texts:
        for begin in range(0, count, 20_000):
            yield np.arange(begin, min(count, begin + 20_000)), texts.slice(begin, 20_000)

    frame = Frame(texts, split, {"prompt_0": keys, "prompt_1": keys, "characters": sizes}, read)
    begun, cpu = time.perf_counter(), time.process_time()
    dropped = sum(len(found.rows) for found in near_duplicates.step(engine.minhash)(frame, np.ones(count, np.bool_)))
    seconds, cpu = time.perf_counter() - begun, time.process_time() - cpu
    return {
        "documents": count,
        "documents_a_second": round(count / seconds),
        "a_core_second": round(count / cpu),
        "dropped": dropped,
    }


def other(name: str, packages: str, kind: str, count: int) -> dict[str, Any] | None:
    """What the other library makes of the same prompts, in an environment of its own."""
    command = [
        Path(sys.executable).parent / "uv",
        "run",
        "--no-project",
        "--python",
        sys.executable,
        "--with",
        packages,
    ]
    with tempfile.TemporaryDirectory() as folder:
        path = Path(folder) / "prompts.jsonl"
        path.write_text("".join(json.dumps({"text": text}) + "\n" for text in prompts(kind, count)))
        ran = subprocess.run(
            [*command, "python", OTHERS, name, path], capture_output=True, text=True, check=False, cwd=folder
        )
    if ran.returncode:
        print(f"{name} is left out: {(ran.stderr.strip().splitlines() or ['no output'])[-1]}", file=sys.stderr)
        return None
    return json.loads(ran.stdout.splitlines()[-1])


def main() -> None:
    parser = argparse.ArgumentParser()
    parser.add_argument("--records", type=int, default=200_000)
    parser.add_argument("--kind", choices=KINDS, default="mixed")
    parser.add_argument("--near", type=int, default=100_000)
    parser.add_argument("--others", type=int, default=10_000)
    asked = parser.parse_args()
    table: dict[str, Any] = {}
    if asked.records:
        table["freeze"] = frozen(asked.kind, asked.records)
    if asked.near:
        table["near"] = near_stage(asked.kind, asked.near)
        table["rensa"] = other("rensa", "rensa==0.5.*", asked.kind, asked.near)
        table["datatrove"] = other(
            "datatrove", "datatrove[io,processing]==0.10.*,spacy==3.8.*", asked.kind, asked.others
        )
    print(json.dumps(table, indent=1))


if __name__ == "__main__":
    main()
