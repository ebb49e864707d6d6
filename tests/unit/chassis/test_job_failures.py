"""Which failures of a job are tried again, when, and how often: one table for every service."""

import errno
import re
import socket
from pathlib import Path
from typing import Any

import pytest
from hypothesis import given
from hypothesis import strategies as st
from sqlalchemy.exc import OperationalError

from services.chassis.errors import ArtifactMissing, ArtifactUnavailable, JobFailed
from services.chassis.jobs.failures import PASSING, Failure, RetryPolicy, classify, exhausted, final, pause, policy_of
from services.chassis.settings import Settings

POLICY = RetryPolicy(attempts=5, crashes=3, first_pause=2, longest_pause=30)
TORCH = "[enforce fail at alloc_cpu.cpp:127] DefaultCPUAllocator: not enough memory: you tried to allocate 8 bytes"


def caused(error: Exception, cause: Exception) -> Exception:
    error.__cause__ = cause
    return error


@pytest.mark.parametrize(
    ("error", "code"),
    [
        (ArtifactUnavailable("no answer"), "store_unavailable"),
        (caused(RuntimeError("x"), ArtifactUnavailable("no answer")), "store_unavailable"),
        (OperationalError("SELECT 1", {}, Exception("server closed the connection")), "database_unavailable"),
        (ConnectionResetError("reset"), "network_unavailable"),
        (TimeoutError(), "network_unavailable"),
        (OSError(errno.EHOSTUNREACH, "No route to host"), "network_unavailable"),
        (OSError(errno.ESTALE, "Stale file handle"), "network_unavailable"),
        (socket.gaierror(socket.EAI_AGAIN, "Temporary failure in name resolution"), "network_unavailable"),
        (OSError(errno.ENOSPC, "No space left on device"), "disk_full"),
        (OSError(errno.EDQUOT, "Disk quota exceeded"), "disk_full"),
        (RuntimeError('SafetensorError: I/O error: Os { message: "No space left on device" }'), "disk_full"),
        (BlockingIOError(errno.EAGAIN, "Resource temporarily unavailable"), "resource_exhausted"),
        (OSError(errno.EMFILE, "Too many open files"), "resource_exhausted"),
        (MemoryError(), "out_of_memory"),
        (OSError(errno.ENOMEM, "Cannot allocate memory"), "out_of_memory"),
        (RuntimeError(TORCH), "out_of_memory"),
        (RuntimeError("DefaultCPUAllocator: can't allocate memory: you tried"), "out_of_memory"),
        (RuntimeError("CUDA out of memory. Tried to allocate 2 GiB"), "out_of_memory"),
        (RuntimeError("CUDA error: CUBLAS_STATUS_ALLOC_FAILED when calling `cublasCreate(handle)`"), "out_of_memory"),
        (caused(JobFailed("model_invalid", "x"), MemoryError()), "out_of_memory"),
        (JobFailed("hub_unavailable", "x"), "hub_unavailable"),
    ],
)
def test_what_passes_is_tried_again(error: Exception, code: str) -> None:
    failure = classify(error)
    assert (failure.code, failure.passes) == (code, True)
    assert not exhausted(failure, 1, 0, None, POLICY)


@pytest.mark.parametrize(
    ("error", "code"),
    [
        (JobFailed("bad_recipe", "x"), "bad_recipe"),
        (JobFailed("empty_dataset", "x"), "empty_dataset"),
        (caused(JobFailed("base_invalid", "x"), OSError(errno.EACCES, "denied")), "base_invalid"),
        (JobFailed("loss_not_finite", "x"), "loss_not_finite"),
        (ArtifactMissing("gone"), "artifact_unusable"),
        (ValueError("else"), "internal"),
        (KeyError("x"), "internal"),
    ],
)
def test_its_own_fault_ends_it_at_once(error: Exception, code: str) -> None:
    failure = classify(error)
    assert (failure.code, failure.passes) == (code, False)
    assert exhausted(failure, 1, 0, None, POLICY)


def test_tries_are_bounded() -> None:
    away, killed, memory = Failure("store_unavailable", ""), Failure("killed", ""), Failure("out_of_memory", "")
    assert [exhausted(away, n, 0, "store_unavailable", POLICY) for n in (1, 4, 5)] == [False, False, True]
    assert [exhausted(killed, n, n, "killed", POLICY) for n in (1, 2, 3)] == [False, False, True]
    assert not exhausted(memory, 2, 0, "store_unavailable", POLICY)
    assert exhausted(memory, 2, 0, "out_of_memory", POLICY), "again with the same settings"


@given(st.integers(1, 10_000), st.floats(0, 1))
def test_pauses_double_up_to_the_longest_and_spread_over_their_upper_half(failures: int, spread: float) -> None:
    whole = min(30, 2 * 2 ** min(failures - 1, 10))
    assert whole / 2 <= pause(failures, POLICY, lambda: spread) <= whole
    assert pause(failures, POLICY, lambda: 0.0) == whole / 2
    assert pause(failures, POLICY, lambda: 1.0) == whole


def test_the_end_says_how_often_it_was_tried_and_what_to_do() -> None:
    away = final(Failure("store_unavailable", "no answer"), 5, {})
    assert away.detail.startswith("no answer; given up after 5 tries; ")
    advice: dict[str, Any] = {"out_of_memory": "lower train.batch_size"}
    assert final(Failure("out_of_memory", "8 bytes"), 2, advice).detail.endswith("; lower train.batch_size")
    assert final(Failure("bad_recipe", "r is 0"), 1, advice).detail == "r is 0"
    assert final(Failure("out_of_memory", "8 bytes"), 2, {}).detail != "8 bytes; given up after 2 tries"


def test_every_code_that_passes_has_advice_for_its_end() -> None:
    assert all(";" in final(Failure(code, "x"), 1, {}).detail for code in PASSING)


def test_the_operations_page_tells_the_same_causes_and_bounds() -> None:
    page = (Path(__file__).parents[3] / "docs" / "operations.md").read_text()
    told = page.partition("## Jobs that fail\n")[2].partition("| all others")[0]
    assert set(re.findall(r"`([a-z]+(?:_[a-z]+)*)`", told)) == PASSING
    for name in ("job_attempts", "job_crashes", "job_keep_days"):
        assert f"| `NORIA_{name.upper()}` | {Settings.model_fields[name].default:g} |" in page
    first, longest = (Settings.model_fields[name].default for name in ("job_retry_seconds", "job_retry_max_seconds"))
    assert f"| `NORIA_JOB_RETRY_SECONDS`, `NORIA_JOB_RETRY_MAX_SECONDS` | {first:g}, {longest:g} |" in page


def test_with_the_defaults_a_store_may_be_away_for_about_an_hour() -> None:
    policy = policy_of(Settings())
    pauses = [pause(failures, policy, lambda: 0.5) for failures in range(1, policy.attempts)]
    assert 40 * 60 < sum(pauses) < 80 * 60
