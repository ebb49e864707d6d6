"""The faults that the chaos run knows, and the seeded dice that choose among them. Measures nothing."""

import os
import random
import signal
import sqlite3
import subprocess
import threading
import time
from collections.abc import Callable
from dataclasses import dataclass

from compose.local.settings import SERVICES
from tests.chaos import sandbox
from tests.chaos.load import Load
from tests.chaos.recovery import ALL, Watch
from tests.chaos.system import SystemUnderTest

STUB = "triton_python_backend_stub"
CHILD = "services.chassis.jobs.child"
SESSION = 12.0
"""Seconds of a pause that outlasts a consumer's session (10 s): whoever wakes up then has been given up."""


@dataclass
class Chaos:
    """What a fault may touch."""

    system: SystemUnderTest
    watch: Watch
    load: Load
    dice: random.Random
    kills: int = 0


def kill(chaos: Chaos, part: str, number: signal.Signals, fault: str, *, all_parts: bool = False) -> None:
    """Sends a deadly signal to a part, which its process manager starts again."""
    pid = chaos.system.pids().get(part)
    if pid is None:
        return
    chaos.watch.note_fault(fault, ALL if all_parts else part, 0 if all_parts else pid)
    os.kill(pid, number)
    chaos.kills += 1


def kill_service(chaos: Chaos) -> None:
    """SIGKILL of a service."""
    kill(chaos, chaos.dice.choice(SERVICES), signal.SIGKILL, "kill -9 service")


def end_service(chaos: Chaos) -> None:
    """SIGTERM of a service."""
    kill(chaos, chaos.dice.choice(SERVICES), signal.SIGTERM, "SIGTERM service")


def kill_worker(chaos: Chaos) -> None:
    """SIGKILL of a service in the middle of its job; with it goes the job's process."""
    busy = [name for name in ("prep", "trainer", "evaluator") if children(chaos.system.pids().get(name, 0), CHILD)]
    if busy:
        name = chaos.dice.choice(busy)
        kill(chaos, name, signal.SIGKILL, f"kill -9 {name} in its job")


def kill_child(chaos: Chaos) -> None:
    """SIGKILL of a job's process alone."""
    found = [pid for name in ("trainer", "evaluator") for pid in children(chaos.system.pids().get(name, 0), CHILD)]
    if found and _signal(chaos.dice.choice(found), signal.SIGKILL):
        chaos.watch.counts["kill -9 job's process"] += 1
        chaos.kills += 1


def kill_kafka(chaos: Chaos) -> None:
    """SIGKILL of the broker."""
    kill(chaos, "kafka", signal.SIGKILL, "kill -9 Kafka", all_parts=True)


def kill_triton(chaos: Chaos) -> None:
    """SIGKILL of Triton."""
    pid = chaos.system.pids().get("triton", 0)
    if pid:
        chaos.watch.note_fault("kill -9 Triton", "serving")
        _signal(pid, signal.SIGKILL)
        chaos.kills += 1


def kill_stub(chaos: Chaos) -> None:
    """SIGKILL of the process that runs the model, streams in it or not; Triton itself stays."""
    for pid in children(chaos.system.pids().get("triton", 0), STUB):
        chaos.watch.note_fault("kill -9 Triton's backend", "serving")
        _signal(pid, signal.SIGKILL)
        chaos.kills += 1


def kill_postgres(chaos: Chaos) -> None:
    """SIGKILL of PostgreSQL's postmaster, and its start two seconds later."""
    if chaos.system.postgres is not None:
        chaos.watch.note_fault("kill -9 PostgreSQL", ALL)
        chaos.system.postgres.kill()
        chaos.kills += 1
        time.sleep(2)
        chaos.system.postgres.start()


def pause(chaos: Chaos, part: str, fault: str, seconds: float) -> None:
    """SIGSTOP, and SIGCONT after a while, in the background."""
    pid = chaos.system.pids().get(part)
    if pid is None or not _signal(pid, signal.SIGSTOP):
        return

    def wake() -> None:
        chaos.watch.note_fault(fault, part, down=False)
        _signal(pid, signal.SIGCONT)

    threading.Timer(seconds, wake).start()


def stop_service(chaos: Chaos) -> None:
    """A service that stands still for longer than its session and wakes up as a zombie."""
    pause(chaos, chaos.dice.choice(SERVICES), "SIGSTOP service 12 s", SESSION)


def stop_kafka(chaos: Chaos) -> None:
    """A broker that stands still for some seconds."""
    pause(chaos, "kafka", "SIGSTOP Kafka 5 s", 5.0)


def second_instance(chaos: Chaos) -> None:
    """A second instance joins, works along and leaves, gently or not: two rebalances."""
    service = chaos.dice.choice(SERVICES)
    number = chaos.dice.choice([signal.SIGTERM, signal.SIGKILL])
    process = chaos.system.second(service)

    def leave() -> None:
        process.send_signal(number)
        try:
            process.wait(15)
        except subprocess.TimeoutExpired:  # as the process manager does
            process.kill()
            process.wait()
        chaos.watch.note_fault("second instance joins and leaves", service, down=False)

    threading.Timer(chaos.dice.uniform(5, 15), leave).start()
    chaos.kills += 1


def lock_database(chaos: Chaos) -> None:
    """Another process holds a service's SQLite database for some seconds."""
    if chaos.system.postgres is not None:
        return
    service = chaos.dice.choice(SERVICES)
    seconds = chaos.dice.uniform(2, 8)

    def hold() -> None:
        connection = sqlite3.connect(chaos.system.home / "state" / f"{service}.db", timeout=5, isolation_level=None)
        try:
            connection.execute("BEGIN EXCLUSIVE")
            time.sleep(seconds)
            chaos.watch.note_fault("SQLite locked 2 to 8 s", service, down=False)
            connection.execute("ROLLBACK")
        except sqlite3.OperationalError:
            return  # the service itself was writing: nothing was locked
        finally:
            connection.close()

    threading.Thread(target=hold).start()


def fill_disk(chaos: Chaos) -> None:
    """No room for some seconds under the databases, the spool and the artifact store."""
    disk = chaos.system.disk
    if disk is None or sandbox.is_full(disk):
        return
    sandbox.fill(disk)

    def clear() -> None:
        sandbox.clear(disk)
        chaos.watch.note_fault("disk full 3 to 8 s", ALL, down=False)

    threading.Timer(chaos.dice.uniform(3, 8), clear).start()


def jump_clock(chaos: Chaos) -> None:
    """The services' clock jumps forward or back by minutes; leases, tries to come and pauses are counted by it."""
    sandbox.set_clock(chaos.system.clock, chaos.dice.choice([-600, 0, 600]))
    chaos.watch.counts["clock jumps by 10 or 20 min"] += 1


def burst(chaos: Chaos) -> None:
    """Far more messages at once than the handlers take meanwhile."""
    chaos.watch.note_fault("burst of 3,000 records", "ingestion", down=False)
    chaos.load.burst()


def overload(chaos: Chaos) -> None:
    """Far more questions at once than the model can answer soon."""
    chaos.watch.note_fault("90 questions of 256 tokens", "serving", down=False)
    chaos.load.questions.overload()


def long_prompts(chaos: Chaos) -> None:
    """Prompts of 8,000 tokens."""
    chaos.watch.note_fault("two prompts of 8,000 tokens", "serving", down=False)
    chaos.load.questions.long_prompts()


def slow_readers(chaos: Chaos) -> None:
    """Clients that stop reading their streams."""
    chaos.watch.note_fault("two readers that stop reading", "serving", down=False)
    chaos.load.questions.slow_readers()


FAULTS: tuple[tuple[Callable[[Chaos], None], int], ...] = (
    (kill_service, 30),
    (end_service, 12),
    (kill_worker, 14),
    (kill_child, 2),
    (kill_kafka, 3),
    (kill_triton, 4),
    (kill_stub, 6),
    (kill_postgres, 4),
    (stop_service, 4),
    (stop_kafka, 2),
    (second_instance, 5),
    (lock_database, 4),
    (fill_disk, 3),
    (jump_clock, 3),
    (burst, 3),
    (overload, 3),
    (long_prompts, 4),
    (slow_readers, 6),
)
"""Each fault with its weight."""


def strike(chaos: Chaos) -> None:
    """Causes one fault."""
    faults, weights = zip(*FAULTS, strict=True)
    chaos.dice.choices(faults, weights)[0](chaos)


def children(pid: int, what: str) -> list[int]:
    """The process ids of a process' children whose command line names `what`."""
    listed = subprocess.run(["ps", "-o", "pid=,args=", "--ppid", str(pid)], capture_output=True, text=True, check=False)
    lines = [line.split(None, 1) for line in listed.stdout.splitlines()]
    return [int(pid) for pid, arguments in lines if what in arguments]


def _signal(pid: int, number: signal.Signals) -> bool:
    try:
        os.kill(pid, number)
    except ProcessLookupError:
        return False
    return True
