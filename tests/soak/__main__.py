"""`scripts/soak`: months of policy time on real services, with every size against its bound at 25, 50, 75 and 100 %.

Retention is shortened: MINUTES stand for 240 days. Kafka, ingestion, prep, the registry and feedback are real; what the trainer,
the evaluator and the gateway would tell, the load tells. Exit status: 0 where every size keeps its bound.
"""

import argparse
import json
import os
import sys
import time
from collections.abc import Mapping
from typing import Any
from unittest.mock import patch

from tests.chaos.load import wait_for
from tests.soak import bounds, measure, stand
from tests.soak.load import AHEAD, ANSWERED, LETTERS_AT_ONCE, UPSTREAM, Amounts, Load
from tests.soak.policy import DAYS, Policy

QUARTERS = (0, 25, 50, 75, 100)
LOOK_SECONDS = 2.0
REST_SECONDS = 120.0


def main() -> None:
    """Runs it as the command line says."""
    arguments = parse()
    databases = ("sqlite", "postgresql") if arguments.database == "both" else (arguments.database,)
    seconds = arguments.minutes * 60 / len(databases)
    reports = [run(database, seconds, arguments.seed, keep=arguments.keep) for database in databases]
    print(json.dumps(reports, indent=2) if arguments.json else "\n\n".join(map(render, reports)))
    idle = [line for report in reports for line in too_little(report["database"], report["reached"], seconds)]
    sys.exit("\n".join(idle) if idle else 1 if any(report["broken"] for report in reports) else 0)


def parse() -> argparse.Namespace:
    """The command line."""
    parser = argparse.ArgumentParser(prog="scripts/soak", description=__doc__)
    parser.add_argument("--minutes", type=float, default=20.0, help="of load, shared by the databases")
    parser.add_argument("--seed", type=int, default=1)
    parser.add_argument("--database", choices=["sqlite", "postgresql", "both"], default="both")
    parser.add_argument("--keep", action="store_true", help="keep the home")
    parser.add_argument("--json", action="store_true")
    return parser.parse_args()


def run(
    database: str, seconds: float, seed: int, *, keep: bool = False, policy: Policy | None = None, ahead: int = AHEAD
) -> dict[str, Any]:
    """The load on one database, `ahead` submissions at most untaken: {"database", "reached", "failures", "sizes", "broken"}."""
    policy = policy or Policy(day=seconds / DAYS)
    say(f"{database}, seed {seed}: {seconds:.0f} s stand for {DAYS} days; starting")
    with stand.started(database, policy, keep=keep) as running:
        load, flow = Load(running, Amounts(), seconds, seed, ahead), bounds.Flow()
        load.start()
        looks: dict[int, measure.Sizes] = {}
        limits: dict[str, int] = {}
        collected: list[dict[str, Any]] = []
        begun = time.monotonic()
        for quarter in QUARTERS:
            wait(running, flow, begun + seconds * quarter / 100)
            if quarter:
                collected.append(collect(running))
            moment = time.monotonic()
            looks[quarter] = measure.measure(running)
            flow.note(moment, measure.produced(running))  # after it: what comes meanwhile may be among the rows
            limits = bounds.bounds(policy, flow, load.done["datasets"] + 50)
            limits["folder artifacts"] = bounds.artifacts(policy, flow)
            say(f"{quarter} %: {dict(load.done)}")
        load.stop()
        wait_for("everything to be taken", lambda: measure.lag(running) == 0, REST_SECONDS)
        taken, sent = measure.taken(running), measure.produced(running)
        reached = dict(load.done) | {"events taken": sum(taken.values())}
        reached["segments"] = looks[100].get("table prep.segment", measure.Size(0)).count
        reached["promotions"] = sent.get("registry.model.promoted.v1", 0)
        # Each redrive is a transaction and ends with a marker that has an offset, one of a command that failed, too.
        markers = load.done["letters redrive"] + LETTERS_AT_ONCE * sum(load.failures.values())
        found = [*broken(looks[100], limits), *unread(taken, sent | {UPSTREAM: sent.get(UPSTREAM, 0) - markers})]
    return {
        "database": database,
        "seed": seed,
        "seconds": seconds,
        "reached": reached,
        "failures": dict(load.failures),
        "collected": [{name: each[name] for name in ("named", "young", "garbage", "removed")} for each in collected],
        "sizes": {
            name: [(look.get(name) or measure.Size(0)) for look in looks.values()] for name in sorted(looks[100])
        },
        "limits": limits,
        "broken": found,
    }


def wait(running: stand.Stand, flow: bounds.Flow, until: float) -> None:
    """Looks at the flow until that moment.

    Raises:
        RuntimeError: a service ended.
    """
    while (left := until - time.monotonic()) > 0:
        running.check_alive()
        flow.note(time.monotonic(), measure.produced(running))
        time.sleep(min(LOOK_SECONDS, left))


def collect(running: stand.Stand) -> dict[str, Any]:
    """`noria gc --yes` on the services that run."""
    from services.cli.verbs.gc import collect as gc

    with patch.dict(os.environ, running.environment), patch("compose.local.settings.SERVICES", stand.SERVICES):
        return gc(remove=True)


def unread(taken: Mapping[str, int], sent: Mapping[str, int]) -> list[str]:
    """The messages that Kafka deleted before a service took them: a run that lost some proves nothing."""
    lost = {topic: sent.get(topic, 0) - taken.get(topic, 0) for topic in (UPSTREAM, ANSWERED)}
    return [f"{n} messages of {topic} were deleted before they were taken" for topic, n in lost.items() if n > 0]


def broken(sizes: measure.Sizes, limits: dict[str, int]) -> list[str]:
    """What is larger than it may be, and what nobody has stated a bound for."""
    found: list[str] = []
    for name, size in sorted(sizes.items()):
        limit = limits.get(name)
        if limit is None:
            found.append(f"{name}: has no stated bound")
        elif _of(name, size) > limit:
            found.append(f"{name}: {_of(name, size)} > {limit}")
    return found


def _of(name: str, size: measure.Size) -> int:
    return size.bytes if name.startswith(bounds.BY_BYTES) else size.count


MEANT_SECONDS = 600.0
"""Half of twenty minutes: what the amounts are meant for."""
LEAST = 0.1
"""A run that reached a smaller share proves nothing. Under a load of 10 to 22, a quarter of the events was reached."""
AMOUNTS = {"events taken": "events", "datasets": "datasets", "promotions": "promotions"}


def compared(reached: Mapping[str, int]) -> str:
    """What was reached beside what a run of twenty minutes on two quiet cores is meant to reach."""
    wanted = Amounts()
    return ", ".join(f"{reached.get(name, 0)} of {getattr(wanted, field)} {field}" for name, field in AMOUNTS.items())


def too_little(database: str, reached: Mapping[str, int], seconds: float) -> list[str]:
    """What was reached too little of for the sizes to say anything."""
    wanted, share = Amounts(), LEAST * seconds / MEANT_SECONDS
    few = [
        f"{database}: {reached.get(name, 0)} {field}, less than {LEAST:.0%} of what {seconds:.0f} s are meant for"
        for name, field in AMOUNTS.items()
        if reached.get(name, 0) < share * getattr(wanted, field)
    ]
    return few if reached.get("segments") else [*few, f"{database}: no record was ever put into a segment"]


def render(report: dict[str, Any]) -> str:
    """The report as a person reads it."""
    heads = [f"{quarter} %" for quarter in QUARTERS]
    lines = [
        f"{report['database']}, seed {report['seed']}: {report['seconds']:.0f} s for {DAYS} days of policy",
        f"reached: {compared(report['reached'])}",
        f"done: {report['reached']}",
        f"failures of the load: {report['failures'] or 'none'}",
        f"collections: {report['collected']}",
        "",
        f"{'what':<62}" + "".join(f"{head:>11}" for head in heads) + f"{'bytes':>13}{'bound':>13}  ok",
    ]
    wrong = {line.split(":")[0] for line in report["broken"]}
    for name, looks in report["sizes"].items():
        limit = report["limits"].get(name)
        counts = "".join(f"{_of(name, look):>11}" for look in looks)
        verdict = "-" if limit is None else "NO" if name in wrong else "yes"
        lines.append(
            f"{name:<62}{counts}{looks[-1].bytes or '':>13}{limit if limit is not None else '':>13}  {verdict}"
        )
    return "\n".join([*lines, "", *(report["broken"] or ["every size keeps its bound"])])


def say(line: str) -> None:
    """Progress on standard error."""
    print(f"soak: {line}", file=sys.stderr, flush=True)


if __name__ == "__main__":
    main()
