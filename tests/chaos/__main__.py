"""`scripts/chaos`: faults by seeded dice on a real stack under traffic, then rest, then the checker's verdict.

Exit status: 0 where nothing was lost, doubled, disordered or left undone.
"""

import argparse
import json
import random
import sys
import tempfile
import time
from collections import Counter
from collections.abc import Sequence
from pathlib import Path
from typing import Any, get_args

import httpx
from sqlalchemy.exc import SQLAlchemyError

from tests.chaos import faults, observe, sandbox, system
from tests.chaos.checker import FROZEN, check
from tests.chaos.load import Load, wait_for
from tests.chaos.observed import KINDS, Finding, Observed, Operation, What
from tests.chaos.recovery import Watch, table
from tests.integration.serving_parts import TEMPLATE
from tests.integration.tiny_model import make_base

WARM_SECONDS = 180.0
"""So long the wheel may take for its first turn, before anything is broken."""
REST_SECONDS = 300.0
"""So long a stack may take from the last fault until nothing moves."""
AT_ONCE = 3
"""So many faults may be open; more would only be one long outage."""


def main() -> None:
    """Runs it as the command line says."""
    arguments = parse()
    dice = random.Random(arguments.seed)
    database = arguments.database or ("sqlite" if arguments.seed % 2 else "postgresql")
    # PostgreSQL's files are its own matter, and its server refuses to run as the namespace's root.
    disk = sandbox.enter("tests.chaos", sys.argv[1:]) if database == "sqlite" else None
    if disk is None:
        say("no disk can be filled in this run" + (": no user namespaces here" if database == "sqlite" else ""))
    with tempfile.TemporaryDirectory(prefix="noria-chaos-base-") as folder:
        base = make_base(Path(folder) / "base")
        (base / "chat_template.jinja").write_text(TEMPLATE)
        say(f"seed {arguments.seed}, {database}: starting the stack")
        running = system.start(database, base, disk)
        keep = True  # where something is found, somebody will look
        try:
            report = run(running, dice, arguments.minutes * 60, arguments.kills)
            keep = arguments.keep or bool(report["findings"])
        except KeyboardInterrupt:
            keep = arguments.keep
            raise
        finally:
            system.stop(running, keep=keep)
            if disk is not None:
                sandbox.leave(disk)
            if keep:
                say(f"the stack's home is kept: {running.home}")
    report |= {"seed": arguments.seed, "database": database}
    print(json.dumps(report, indent=2) if arguments.json else render(report))
    sys.exit(0 if not report["findings"] else 1)


def parse() -> argparse.Namespace:
    """The command line."""
    parser = argparse.ArgumentParser(prog="scripts/chaos", description=__doc__)
    parser.add_argument("--minutes", type=float, default=5.0, help="how long faults happen")
    parser.add_argument("--kills", type=int, default=0, help="go on until so many processes were killed, however long")
    parser.add_argument(
        "--seed", type=int, default=1, help="odd: on SQLite, even: on PostgreSQL, unless said otherwise"
    )
    parser.add_argument("--database", choices=["sqlite", "postgresql"])
    parser.add_argument("--keep", action="store_true", help="keep the stack's home though nothing was found")
    parser.add_argument("--json", action="store_true")
    return parser.parse_args()


def run(running: system.SystemUnderTest, dice: random.Random, seconds: float, kills: int) -> dict[str, Any]:
    """Faults under traffic, rest, verdict: what was done and found."""
    load = Load(running.kafka, running.url, dice.randrange(2**32))
    watch = Watch(running)
    chaos = faults.Chaos(running, watch, load, dice)
    load.start()
    watch.start()
    try:
        wait_for("the first answers and promotions", lambda: not idle(load.operations), WARM_SECONDS)
        say("traffic flows; faults begin")
        began = time.monotonic()
        storm(chaos, began, seconds, kills)
    finally:
        say("no more faults; waiting for rest")
        load.stop()
    rested = time.monotonic()
    findings = rest(running, watch)
    resting = time.monotonic() - rested
    watch.stop()
    seen = observe.observe(running, load.operations)
    compacted = segments(seen)
    findings += check(seen) + idle(load.operations) + uncompacted(compacted)
    return {
        "seconds": round(rested - began, 1),
        "rest_seconds": round(resting, 1),
        "kills": chaos.kills,
        "operations": dict(Counter(d.what for d in load.operations if d.acknowledged)),
        "compacted": compacted,
        "events": {topic: len(messages) for topic, messages in sorted(seen.topics.items()) if messages},
        "recovery": table(watch),
        "findings": {k: n for k in KINDS if (n := sum(f.kind == k for f in findings))},
        "examples": [f"{f.kind}: {f.where}: {f.what}" for f in findings[:40]],
    }


def idle(operations: Sequence[Operation]) -> list[Finding]:
    """A run in which some kind of operation never succeeded proves nothing of it."""
    done = {operation.what for operation in operations if operation.acknowledged}
    return [Finding("stuck", "load", f"no {what} was ever acknowledged") for what in get_args(What) if what not in done]


def segments(seen: Observed) -> int:
    """How many segments of records the freezes made and told of."""
    frozen = [json.loads(message.value or b"{}") for message in seen.topics.get(FROZEN, ())]
    return len({digest for event in frozen for digest in event.get("segments") or ()})


def uncompacted(made: int) -> list[Finding]:
    """Nor does a run in which no freeze put records into segments prove anything of compaction."""
    return [] if made else [Finding("stuck", "prep", "no record was ever put into a segment")]


def storm(chaos: faults.Chaos, began: float, seconds: float, kills: int) -> None:
    """Faults one after the other until the time is over and enough was killed."""
    told = 0
    while time.monotonic() - began < seconds or chaos.kills < kills:
        if chaos.watch.open() < AT_ONCE:
            faults.strike(chaos)
        time.sleep(chaos.dice.uniform(0.3, 2.5))
        if chaos.kills >= told + 20:
            told = chaos.kills
            say(f"{told} kills in {time.monotonic() - began:.0f} s; open: {chaos.watch.describe()}")


def rest(running: system.SystemUnderTest, watch: Watch) -> list[Finding]:
    """Waits until nothing moves; what still moves after long is a finding."""
    left = ""

    def quiet() -> bool:
        nonlocal left
        try:
            left = "; ".join(watch.describe()) or observe.unsettled(running)
        except (httpx.HTTPError, SQLAlchemyError, KeyError) as error:
            left = repr(error)[:300]
        return not left

    try:
        wait_for("rest", quiet, REST_SECONDS, 1.0)
        wait_for("rest that lasts", quiet, 60, 3.0)
    except TimeoutError:
        return [Finding("stuck", "stack", f"does not come to rest: {left}")]
    return []


def render(report: dict[str, Any]) -> str:
    """The report as a person reads it."""
    lines = [
        f"{report['kills']} kills in {report['seconds']:.0f} s on {report['database']}, seed {report['seed']};"
        f" at rest {report['rest_seconds']:.0f} s later",
        f"acknowledged: {report['operations']}; {report['compacted']} segments of records",
        "",
        f"{'fault':<36}{'times':>7}{'median s':>10}{'worst s':>10}",
        *(f"{fault:<36}{n:>7}{middle:>10}{worst:>10}" for fault, n, middle, worst in report["recovery"]),
        "",
        *(f"{kind:<16}{report['findings'].get(kind, 0):>5}" for kind in KINDS),
        *report["examples"],
    ]
    return "\n".join(lines)


def say(line: str) -> None:
    """Progress on standard error."""
    print(f"chaos: {line}", file=sys.stderr, flush=True)


if __name__ == "__main__":
    main()
