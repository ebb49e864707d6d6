"""What a Ray cluster's loss is called, and what is none."""

import subprocess
import sys
from collections.abc import Callable

import pytest

from services.chassis.errors import JobFailed
from services.chassis.jobs.failures import classify
from services.prep import ray_cluster


def lost(error: Exception) -> Exception:
    with pytest.raises(Exception) as caught, ray_cluster.watched():  # noqa: PT011 - which one it is is asked by the test
        raise error
    return caught.value


def test_a_connection_that_breaks_is_a_failure_that_passes() -> None:
    failure = classify(lost(ConnectionError("Client is shutting down.")))
    assert (failure.code, failure.passes) == ("ray_unavailable", True)
    assert failure.detail == "the Ray cluster was lost: ConnectionError: Client is shutting down."


def test_what_a_function_raises_stays_what_it_is() -> None:
    error = KeyError("format")
    assert lost(error) is error


@pytest.mark.parametrize("name", ["WorkerCrashedError", "ObjectLostError", "RaySystemError", "NodeDiedError"])
def test_ray_s_own_errors_are_a_loss_too(name: str) -> None:
    exceptions = pytest.importorskip("ray.exceptions", reason="the extra noria[ray] is not installed")
    made: Callable[..., Exception] = getattr(exceptions, name)
    error = (
        made("id", "owner", "site")
        if name == "ObjectLostError"
        else made(*(["x"] if name != "WorkerCrashedError" else []))
    )
    assert classify(lost(error)).code == "ray_unavailable"


def test_an_error_of_a_function_on_the_cluster_is_none() -> None:
    exceptions = pytest.importorskip("ray.exceptions", reason="the extra noria[ray] is not installed")
    error = exceptions.RayTaskError("measure", "KeyError: 'format'", KeyError("format"))
    assert lost(error) is error


def test_without_the_package_the_failure_says_what_to_install(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(ray_cluster, "find_spec", lambda _: None)
    with pytest.raises(JobFailed, match=r"noria\[ray\]") as failed:
        ray_cluster.connect("ray://h:10001")
    assert (failed.value.code, classify(failed.value).passes) == ("ray_missing", False)


def test_no_freeze_loads_ray_unasked() -> None:
    told = subprocess.run(
        [
            sys.executable,
            "-c",
            "import sys; from services.prep import engine; engine.start(None); print('ray' in sys.modules)",
        ],
        capture_output=True,
        text=True,
        check=True,
    )
    assert told.stdout.strip() == "False"
