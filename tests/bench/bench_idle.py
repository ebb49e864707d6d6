"""CPU and memory of a running, idle stack, process by process; prints JSON.

Run: noria up --detach && python -m tests.bench.bench_idle [seconds]

CPU is utime + stime of each held process and all its children over the window (proc(5)), in per cent of one core; memory
is the resident set at the end, in MB. `torch` says whether libtorch is mapped into the process itself.
"""

import json
import os
import sys
import time
from pathlib import Path

from compose.local import supervisor
from compose.local.settings import SERVICES, StackSettings

TICKS = os.sysconf("SC_CLK_TCK")
PAGE = os.sysconf("SC_PAGE_SIZE")


def family(pid: int) -> list[int]:
    """The process and all that descend from it."""
    children = Path(f"/proc/{pid}/task/{pid}/children")
    below = [int(word) for word in children.read_text().split()] if children.exists() else []
    return [pid, *(one for child in below for one in family(child))]


def cpu_seconds(pid: int) -> float:
    """CPU time of a process and its children so far."""
    fields = [Path(f"/proc/{one}/stat").read_text().rsplit(")", 1)[1].split() for one in family(pid)]
    return sum(int(f[11]) + int(f[12]) for f in fields) / TICKS


def resident_mb(pid: int) -> float:
    """Resident memory of a process and its children."""
    return sum(int(Path(f"/proc/{one}/statm").read_text().split()[1]) for one in family(pid)) * PAGE / 1e6


def main() -> None:
    """Measures and prints."""
    seconds = float(sys.argv[1]) if len(sys.argv) > 1 else 60.0
    held = {p.name: p.pid for p in supervisor.processes(StackSettings().home)}
    if not held:
        sys.exit("no stack runs in NORIA_HOME; start it: noria up --detach")
    before = {name: cpu_seconds(pid) for name, pid in held.items()}
    time.sleep(seconds)
    parts = {
        name: {
            "cpu_percent": round(100 * (cpu_seconds(pid) - before[name]) / seconds, 2),
            "resident_mb": round(resident_mb(pid), 1),
            "torch": "libtorch" in Path(f"/proc/{pid}/maps").read_text(),
        }
        for name, pid in sorted(held.items())
    }
    services = [part for name, part in parts.items() if name in SERVICES]
    summary = {
        "seconds": seconds,
        "cpu_percent_of_one_core": round(sum(float(p["cpu_percent"]) for p in parts.values()), 2),
        "largest_service_mb": max(float(p["resident_mb"]) for p in services),
        "services_with_torch": sum(bool(p["torch"]) for p in services),
    }
    print(json.dumps({"summary": summary, "parts": parts}, indent=1))


if __name__ == "__main__":
    main()
