"""Starts tritonserver in the place of this process, and clears away what a killed one left; it knows no model.

python -m services.serving.triton.launch            becomes tritonserver
python -m services.serving.triton.launch --clean    ends orphaned stubs and removes shared memory of this home
"""

import hashlib
import os
import signal
import sys
import sysconfig
import time
from collections.abc import Iterator, Mapping
from dataclasses import dataclass
from pathlib import Path

from services.serving.triton import watchdog
from services.serving.triton.layout import clear, install_backends, wheel_root

EXIT_SECONDS = 5  # that running requests get after SIGTERM
RESTRICTED = "logging,trace,shared-memory:nobody=a\n\nb"
"""Nobody may use these: they write files and read memory. No HTTP header or gRPC metadata can carry an empty line."""
POLL_SECONDS = 1
SHARED_MEMORY = Path("/dev/shm")  # noqa: S108  Triton's own place for it, on every Linux


class ServerRuns(RuntimeError):
    """This home's server is alive, so nothing of it may be cleared away."""


@dataclass(frozen=True, slots=True)
class TritonSettings:
    """Where this server lies and listens."""

    home: Path = Path(".noria")
    cache: Path = Path("~/.cache/noria")
    http_port: int = 8000
    grpc_port: int = 8001
    metrics_port: int = 8002
    host: str = "127.0.0.1"

    @property
    def repository(self) -> Path:
        """The model repository."""
        return self.home / "models" / "repository"

    @property
    def backends(self) -> Path:
        """The backend directory."""
        return self.home / "models" / "backends"

    @property
    def shared_memory_prefix(self) -> str:
        """Begins the name of every shared memory segment of this home's server."""
        return f"noria-{hashlib.sha256(str(self.home).encode()).hexdigest()[:12]}-"


def from_environment(environment: Mapping[str, str]) -> TritonSettings:
    """Reads NORIA_HOME, NORIA_CACHE and NORIA_TRITON_{HTTP,GRPC,METRICS}_PORT, NORIA_TRITON_HOST."""
    get = environment.get
    return TritonSettings(
        home=Path(get("NORIA_HOME") or ".noria").expanduser().resolve(),
        cache=Path(get("NORIA_CACHE") or "~/.cache/noria").expanduser().resolve(),
        http_port=int(get("NORIA_TRITON_HTTP_PORT") or 8000),
        grpc_port=int(get("NORIA_TRITON_GRPC_PORT") or 8001),
        metrics_port=int(get("NORIA_TRITON_METRICS_PORT") or 8002),
        host=get("NORIA_TRITON_HOST") or "127.0.0.1",
    )


def command(settings: TritonSettings) -> tuple[list[str], dict[str, str]]:
    """Returns the argument list and the environment of tritonserver."""
    wheel = wheel_root()
    argv = [
        str(wheel / "bin" / "tritonserver"),
        f"--model-repository={settings.repository}",
        f"--backend-directory={settings.backends}",
        f"--cache-directory={wheel / 'caches'}",
        "--model-control-mode=poll",  # refuses to load and unload to everybody
        f"--repository-poll-secs={POLL_SECONDS}",
        "--strict-readiness=false",  # else one failed load makes the whole server unready
        "--exit-on-error=false",
        "--allow-gpu-metrics=false",
        f"--exit-timeout-secs={EXIT_SECONDS}",
        f"--backend-config=python,shm-region-prefix-name={settings.shared_memory_prefix}",
        f"--http-address={settings.host}",
        f"--http-port={settings.http_port}",
        f"--grpc-address={settings.host}",
        f"--grpc-port={settings.grpc_port}",
        f"--metrics-address={settings.host}",
        f"--metrics-port={settings.metrics_port}",
        f"--http-restricted-api={RESTRICTED}",
        f"--grpc-restricted-protocol={RESTRICTED}",
    ]
    return argv, {**os.environ, **environment(wheel)}


def environment(wheel: Path) -> dict[str, str]:
    """Returns what lets the server find its libraries, and its stubs this environment's python3."""
    libraries = [str(wheel.parents[1] / "nvidia_pytriton.libs"), sysconfig.get_config_var("LIBDIR")]
    return {
        "LD_LIBRARY_PATH": ":".join(filter(None, [*libraries, os.environ.get("LD_LIBRARY_PATH")])),
        "PATH": f"{Path(sys.executable).parent}:{os.environ.get('PATH', '')}",
        "TOKENIZERS_PARALLELISM": "false",
        "TRANSFORMERS_OFFLINE": "1",  # models are directories: no name may become a download
        "HF_HUB_OFFLINE": "1",
    }


def running(prefix: str) -> int | None:
    """Returns the process id of the living server with this shared memory prefix."""
    setting = f"--backend-config=python,shm-region-prefix-name={prefix}"
    return next((pid for pid, words in processes() if words[0].endswith("tritonserver") and setting in words), None)


def stubs(prefix: str) -> list[int]:
    """Returns the process ids of the Python stubs whose shared memory begins with `prefix`."""
    return [pid for pid, words in processes()
            if words[0].endswith("triton_python_backend_stub") and any(word.startswith(prefix) for word in words)]  # fmt: skip


def processes() -> Iterator[tuple[int, list[str]]]:
    """Yields process id and argument list of every process that can be seen."""
    for entry in Path("/proc").iterdir():
        if entry.name.isdigit():
            try:
                words = (entry / "cmdline").read_bytes().decode(errors="replace").split("\0")
            except OSError:  # it has ended meanwhile
                continue
            yield int(entry.name), words


def end(pids: list[int]) -> None:
    """Kills processes by id. A stub whose server is gone answers no gentler signal."""
    for pid in pids:
        try:
            os.kill(pid, signal.SIGKILL)
        except ProcessLookupError:
            continue
    deadline = time.monotonic() + 5
    while time.monotonic() < deadline and any(Path(f"/proc/{pid}").exists() for pid in pids):
        time.sleep(0.02)


def clean(settings: TritonSettings) -> None:
    """Ends the stubs and removes the segments of this home's former server. Raises ServerRuns."""
    if (server := running(settings.shared_memory_prefix)) is not None:
        raise ServerRuns(f"tritonserver of {settings.home} still runs (process {server}); stop it first")
    end(stubs(settings.shared_memory_prefix))
    for segment in SHARED_MEMORY.glob(f"{settings.shared_memory_prefix}*"):
        segment.unlink(missing_ok=True)


def main(arguments: list[str]) -> None:
    """Cleans, and without --clean becomes tritonserver."""
    settings = from_environment(os.environ)
    try:
        clean(settings)
    except ServerRuns as error:
        sys.exit(str(error))
    if arguments == ["--clean"]:
        return
    clear(settings.repository)
    install_backends(settings.backends)
    argv, env = command(settings)
    watchdog.begin(f"http://{settings.host}:{settings.http_port}")
    os.execve(argv[0], argv, env)  # noqa: S606  no shell, and the process manager keeps the pid


if __name__ == "__main__":
    main(sys.argv[1:])
