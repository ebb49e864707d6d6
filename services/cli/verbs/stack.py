"""`noria up`, `down` and `status`: the local stack as a person sees it."""

import signal
import threading
import time
from typing import TYPE_CHECKING, Annotated, Any

import typer

from services.cli.addresses import settings
from services.cli.errors import ConsoleError
from services.cli.output import AsJson, note, show

if TYPE_CHECKING:
    from compose.local.settings import StackSettings


def up(
    detach: Annotated[bool, typer.Option("--detach", "-d", help="Come back once everything is ready.")] = False,
    timeout: Annotated[float, typer.Option(min=1, help="Seconds until everything must be ready.")] = 180,
    as_json: AsJson = False,
) -> None:
    """Start Kafka, Triton and all services. Without --detach Ctrl-C stops them again."""
    from compose.local import stack

    where = settings()
    seconds = start(where, timeout)
    document = {"ready": True, "seconds": seconds, "home": str(where.home), "addresses": addresses(where)}
    show(document, as_json, lambda: f"ready; state and logs lie under {where.home}; `noria down` stops it")
    if detach:
        return
    note("Ctrl-C stops it")
    stopping = threading.Event()
    for number in (signal.SIGINT, signal.SIGTERM):
        signal.signal(number, lambda *_: stopping.set())
    stopping.wait()
    note("stopping")
    stack.stop(where)


def start(where: "StackSettings", timeout: float) -> dict[str, float]:
    """Starts what does not run and waits until all is ready, telling each part; seconds by part.

    Raises:
        ConsoleError: a part does not start, with the end of its log.
    """
    from compose.local import stack
    from compose.local.assets import AssetError
    from compose.local.ports import PortTaken

    _refuse_unguarded_host(where)
    seconds: dict[str, float] = {}
    ours = False
    try:
        ours = stack.start(where, note)
        if not ours:
            note("already running")
        for name, took in stack.wait_ready(where, timeout):
            seconds[name] = round(took, 2)
            note(f"{name}: ready after {took:.1f} s")
    except (stack.StackError, PortTaken, AssetError) as error:
        raise ConsoleError("stack_not_started", str(error)) from error
    except KeyboardInterrupt:
        if ours:
            note("stopping what was started")
            stack.stop(where)
        raise
    return seconds


def _refuse_unguarded_host(where: "StackSettings") -> None:
    """Every service would refuse to start; so it is told once, before any is tried."""
    from services.chassis.http.keys import KeysUnreadable, start_refusal

    try:
        why = start_refusal(where.host, where.api_keys_file)
    except KeysUnreadable as error:
        why = str(error)
    if why:
        raise ConsoleError("keys_needed", why)


def addresses(where: "StackSettings") -> dict[str, str]:
    """Where each part listens."""
    from compose.local.settings import SERVICES

    return {"kafka": where.kafka_bootstrap, "triton": where.url("triton_http")} | {n: where.url(n) for n in SERVICES}


def down(as_json: AsJson = False) -> None:
    """Stop the stack; nothing stays behind but its state under NORIA_HOME."""
    from compose.local import stack

    began = time.monotonic()
    try:
        ran = stack.stop(settings())
    except stack.StackError as error:
        raise ConsoleError("stack_not_stopped", str(error)) from error
    document = {"stopped": ran, "seconds": round(time.monotonic() - began, 2)}
    show(document, as_json, lambda: "stopped" if ran else "nothing was running")


def status(as_json: AsJson = False) -> None:
    """Show processes, readiness, lag, dead letters and recent failures. Exit status 0 only if all is ready."""
    from services.cli.health import document, render

    found: dict[str, Any] = document(settings())
    show(found, as_json, lambda: render(found))
    if not found["ready"]:
        raise typer.Exit(1)
