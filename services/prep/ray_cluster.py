"""The Ray cluster that freezes compute on, where a setting names one. What it does not do in time is a failure that passes."""

import os
from collections.abc import Generator
from contextlib import contextmanager
from importlib.util import find_spec
from threading import Thread

import daft

from services.chassis.errors import JobFailed

CONNECT_SECONDS = 60.0
"""Ray itself waits for ever at some addresses where nobody listens."""
AWAY = "ray_unavailable"


def connect(address: str, seconds: float = CONNECT_SECONDS) -> None:
    """Lets Daft compute on the cluster at `ray://HOST:10001`, or at HOST:6379 where Ray runs on this machine too.

    Raises:
        JobFailed: `ray_unavailable`, or `ray_missing` where the package is not installed.
    """
    if find_spec("ray") is None:
        raise JobFailed(
            "ray_missing",
            f"NORIA_PREP_RAY_ADDRESS names {address}, but the package ray is not installed: pip install 'noria[ray]'",
        )
    os.environ.setdefault("RAY_USAGE_STATS_ENABLED", "0")  # Ray would tell its makers
    failed: list[Exception] = []

    def join() -> None:
        try:
            daft.set_runner_ray(address)
        except Exception as error:
            failed.append(error)

    # Beside the main thread, whose handler of SIGTERM is the job's own and which Ray would replace.
    thread = Thread(target=join, daemon=True)
    thread.start()
    thread.join(seconds)
    if thread.is_alive():
        raise JobFailed(AWAY, f"no Ray cluster answered at {address} within {seconds:g} s")
    if failed:
        error = failed[0]
        raise JobFailed(AWAY, f"the Ray cluster at {address} cannot be used: {_told(error)}") from error


@contextmanager
def watched() -> Generator[None]:
    """Names what the cluster's loss raises; what a function raised there stays what it is."""
    try:
        yield
    except Exception as error:
        if not _is_loss(error):
            raise
        raise JobFailed(AWAY, f"the Ray cluster was lost: {_told(error)}") from error


def _is_loss(error: Exception) -> bool:
    of_ray = any(cls.__module__ == "ray.exceptions" and cls.__name__ == "RayError" for cls in type(error).__mro__)
    of_function = any(cls.__name__ == "RayTaskError" for cls in type(error).__mro__)
    return isinstance(error, ConnectionError) or (of_ray and not of_function)


def _told(error: Exception) -> str:
    return f"{type(error).__name__}: {error}"[:300]
