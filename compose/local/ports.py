"""Whether a port is free, and who holds it. Reads /proc; opens no service."""

import socket
from pathlib import Path

from compose.local.settings import SERVICES, StackSettings

NAMES = ("kafka", "kafka_controller", "triton_http", "triton_grpc", "triton_metrics", *SERVICES)


class PortTaken(Exception):
    """A port of the stack belongs to another process."""


def check(settings: StackSettings) -> None:
    """Refuses to start where a port is taken.

    Raises:
        PortTaken: with the port, who holds it and the setting to change.
    """
    taken = [(name, settings.port(name)) for name in NAMES if listening(settings.host, settings.port(name))]
    if taken:
        lines = [f"port {port} is taken by {holder(port)}; set NORIA_{name.upper()}_PORT" for name, port in taken]
        raise PortTaken("; ".join(lines))


def listening(host: str, port: int) -> bool:
    """Whether somebody listens there."""
    with socket.socket() as probe:
        probe.settimeout(0.5)
        return probe.connect_ex((host, port)) == 0


def holder(port: int) -> str:
    """The process that listens on a port, as 'pid 17 (java -cp ...)', or 'another process'."""
    inodes = {f"socket:[{inode}]" for inode in _listening_inodes(port)}
    for descriptor in Path("/proc").glob("[0-9]*/fd/*"):
        try:
            if str(descriptor.readlink()) in inodes:
                pid = descriptor.parts[2]
                words = Path(f"/proc/{pid}/cmdline").read_bytes().replace(b"\0", b" ").decode(errors="replace")
                return f"pid {pid} ({words.strip()[:80]})"
        except OSError:
            continue  # a process that ended meanwhile, or is not ours to look into
    return "another process"


def _listening_inodes(port: int) -> list[str]:
    listen = "0A"  # TCP_LISTEN in include/net/tcp_states.h
    found: list[str] = []
    for table in ("tcp", "tcp6"):
        path = Path(f"/proc/net/{table}")
        rows = path.read_text().splitlines()[1:] if path.exists() else []
        cells = [row.split() for row in rows]
        found += [c[9] for c in cells if c[3] == listen and int(c[1].rsplit(":", 1)[1], 16) == port]
    return found
