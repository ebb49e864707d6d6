"""Which failures of a job pass, and when it is tried again: the one place where that is decided.

A failure passes where the same job may succeed later though nobody changes it. Every other code is the job's own fault
(`bad_recipe`, `empty_dataset`, `loss_not_finite`, `base_invalid`, ... and `internal`, a defect) and ends it.

code                   what happened                                   tried again
store_unavailable      the artifact store does not answer              attempts
hub_unavailable        the hub of base models does not answer          attempts
database_unavailable   the database is away, locked or full            attempts
ray_unavailable        the Ray cluster that freezes compute on is away  attempts
network_unavailable    a connection broke or was refused, or timed out attempts
disk_full              no space is left where the job writes           attempts
resource_exhausted     the machine gives no process or open file more  attempts
worker_lost            the service's process vanished with the job     attempts
killed                 SIGKILL, most likely by the kernel for memory   crashes
crashed                the process ended without a word                crashes
out_of_memory          an allocation failed                            once
"""

import errno
import random
import socket
from collections.abc import Callable, Iterator, Mapping
from dataclasses import dataclass

from services.chassis.errors import ArtifactError, ArtifactUnavailable, JobFailed
from services.chassis.observability.redaction import storable
from services.chassis.settings import Settings

CRASHES = frozenset({"killed", "crashed"})
ONCE = frozenset({"out_of_memory"})
PASSING = (
    CRASHES
    | ONCE
    | {
        "store_unavailable",
        "hub_unavailable",
        "database_unavailable",
        "ray_unavailable",
        "network_unavailable",
        "disk_full",
        "resource_exhausted",
        "worker_lost",
    }
)
ADVICE: Mapping[str, str] = {
    "store_unavailable": "bring the artifact store (NORIA_ARTIFACTS) back and retry",
    "hub_unavailable": "bring the hub back, or give a directory as the base",
    "database_unavailable": "bring the database back and retry",
    "ray_unavailable": "bring the cluster back and retry, or unset NORIA_PREP_RAY_ADDRESS",
    "network_unavailable": "bring the connection back and retry",
    "disk_full": "free space under NORIA_HOME and retry",
    "resource_exhausted": "raise the machine's limits of processes and open files (ulimit -u, ulimit -n, pids.max)",
    "out_of_memory": "give the machine more memory, or make the job smaller",
    "killed": "give the machine more memory, or make the job smaller",
    "crashed": "see the service's log",
    "worker_lost": "see the log of the service and of its supervisor",
}
"""What a person can do once the tries are used up; a kind of job may know better (`JobKind.advice`)."""
UNREACHABLE = frozenset({errno.ENETUNREACH, errno.EHOSTUNREACH, errno.ENETDOWN, errno.EHOSTDOWN, errno.ESTALE})
"""What the system says of a network that is away and Python has no ConnectionError for; ESTALE: a network's file system."""
EXHAUSTED = frozenset({errno.EAGAIN, errno.EMFILE, errno.ENFILE})
"""No process can be forked (fork(2): EAGAIN), no file opened."""
ALLOCATION = ("OutOfMemory", "not enough memory", "allocate memory", "CUDA out of memory", "STATUS_ALLOC_FAILED")
"""Words of torch, on CPU and CUDA, and of cuBLAS and cuDNN (CUBLAS_STATUS_ALLOC_FAILED) for an allocation that failed."""


@dataclass(frozen=True, slots=True)
class Failure:
    """Why a job has no result. `code` is a stable word: one of the table above, cancelled, internal or the job's own."""

    code: str
    detail: str

    def __post_init__(self) -> None:
        # What a library said may hold what no database and no event takes; the job must end none the less.
        object.__setattr__(self, "detail", storable(self.detail))

    @property
    def passes(self) -> bool:
        """Whether the job is worth another try."""
        return self.code in PASSING


@dataclass(frozen=True, slots=True)
class RetryPolicy:
    """Tries in a row without a new checkpoint, and the pauses between them in seconds."""

    attempts: int = 12
    crashes: int = 3
    first_pause: float = 5.0
    longest_pause: float = 900.0


def policy_of(settings: Settings) -> RetryPolicy:
    """The policy that a service's settings give."""
    return RetryPolicy(
        settings.job_attempts, settings.job_crashes, settings.job_retry_seconds, settings.job_retry_max_seconds
    )


def exhausted(failure: Failure, failures: int, crashes: int, last: str | None, policy: RetryPolicy) -> bool:
    """Whether the job ends. `failures` and the `crashes` among them count this one; `last` is the code before it."""
    if failure.code in ONCE and last == failure.code:
        return True
    return not failure.passes or failures >= policy.attempts or crashes >= policy.crashes


def pause(failures: int, policy: RetryPolicy, spread: Callable[[], float] = random.random) -> float:
    """Seconds until the next try after so many failures in a row: doubled each time, the upper half of it by chance.

    Equal jitter, of https://aws.amazon.com/blogs/architecture/exponential-backoff-and-jitter/: jobs that failed together
    do not come back together. `spread` gives numbers from 0 to 1.
    """
    longest = min(policy.longest_pause, policy.first_pause * 2.0 ** min(failures - 1, 40))
    return longest * (1 + spread()) / 2


def final(failure: Failure, failures: int, advice: Mapping[str, str]) -> Failure:
    """The failure as it ends a job: with how often it was tried in vain, and what to do."""
    tries = f"; given up after {failures} tries" if failure.passes and failures > 1 else ""
    todo = {**ADVICE, **advice}.get(failure.code)
    return Failure(failure.code, f"{failure.detail}{tries}" + (f"; {todo}" if todo else ""))


def classify(error: BaseException) -> Failure:
    """The failure that an exception of a job means.

    Memory and disk are looked for in its causes too: libraries wrap what the system said. Torch on CPU raises a plain
    RuntimeError when an allocation fails, and safetensors an error of its own on a full disk, hence the look at the text.
    """
    for each in _chain(error):
        if code := _resource(each):
            return Failure(code, _text(each)[:500])
    if isinstance(error, JobFailed):
        return Failure(error.code, error.detail)
    for each in _chain(error):
        if code := _away(each):
            return Failure(code, _text(each)[:500])
    if isinstance(error, ArtifactError):
        return Failure("artifact_unusable", str(error))
    return Failure("internal", _text(error)[:2000])


def _chain(error: BaseException) -> Iterator[BaseException]:
    seen: set[int] = set()
    current: BaseException | None = error
    while current is not None and id(current) not in seen:
        seen.add(id(current))
        yield current
        current = current.__cause__


def _resource(error: BaseException) -> str | None:
    text = _text(error)
    if (
        isinstance(error, OSError) and error.errno in (errno.ENOSPC, errno.EDQUOT)
    ) or "No space left on device" in text:
        return "disk_full"
    if isinstance(error, OSError) and error.errno == errno.ENOMEM:
        return "out_of_memory"
    if isinstance(error, OSError) and error.errno in EXHAUSTED:
        return "resource_exhausted"
    return "out_of_memory" if isinstance(error, MemoryError) or any(word in text for word in ALLOCATION) else None


def _away(error: BaseException) -> str | None:
    if isinstance(error, ArtifactUnavailable):
        return "store_unavailable"
    if isinstance(error, TimeoutError | ConnectionError | socket.gaierror):
        return "network_unavailable"
    if isinstance(error, OSError) and error.errno in UNREACHABLE:
        return "network_unavailable"
    if type(error).__module__.startswith(("sqlalchemy", "services.chassis.storage.database")):
        # Imported here: most jobs touch no database, and need not carry its libraries in memory.
        from services.chassis.storage.database import is_database_fault

        return "database_unavailable" if is_database_fault(error) else None
    return None


def _text(error: BaseException) -> str:
    return f"{type(error).__name__}: {error}"
