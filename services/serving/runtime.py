"""What the gateway and the deployer of one process share: routes, what Triton holds, the connection. Does nothing."""

import asyncio
from collections import Counter
from collections.abc import Awaitable, Callable
from dataclasses import dataclass, field

from contracts.events.serving import InferenceCompletedV1
from services.serving.domain.liveness import Progress
from services.serving.domain.reconcile import Loaded
from services.serving.domain.routing import EMBEDDER, TEACHER, Routes
from services.serving.domain.waiting import slowed
from services.serving.embedder import Embedder
from services.serving.metrics import GatewayMetrics
from services.serving.settings import ServingSettings
from services.serving.teacher.state import Teachers
from services.serving.templates import Templates
from services.serving.triton.client import Triton
from services.serving.triton.status import EngineStatus
from services.serving.turns import Turns


@dataclass(slots=True)
class Runtime:
    """Touched by the event loop's thread alone. The deployer writes it; the gateway reads it and raises suspicion."""

    settings: ServingSettings
    routes: Routes = field(default_factory=Routes)
    loaded: dict[str, Loaded] = field(default_factory=dict[str, Loaded])
    generations: dict[str, str] = field(default_factory=dict[str, str])
    """The name under which Triton holds each model that is loaded: a new one at each load."""
    faults: dict[str, str] = field(default_factory=dict[str, str])
    """Why a Triton model that should be loaded is not."""
    suspects: set[str] = field(default_factory=set[str])
    """Triton models of which a request failed: to be probed at once."""
    statuses: dict[str, EngineStatus] = field(default_factory=dict[str, EngineStatus])
    """What the engine of each loaded model that tells said last."""
    progress: dict[str, Progress] = field(default_factory=dict[str, Progress])
    heard: dict[str, float] = field(default_factory=dict[str, float])
    """When (time.perf_counter()) a token of each Triton model last came."""
    restarts: Counter[str] = field(default_factory=Counter[str])
    """How often a Triton model was lost or loaded afresh: what ran in it before gets no further token."""
    wake: asyncio.Event = field(default_factory=asyncio.Event)
    triton: Triton | None = None
    up: bool = False
    record: Callable[[InferenceCompletedV1], Awaitable[None]] | None = None
    record_fault: str | None = None
    metrics: GatewayMetrics | None = None
    in_flight: int = 0
    embedder: Embedder = field(default_factory=Embedder)
    teachers: Teachers = field(default_factory=Teachers)
    turns: Turns = field(init=False)
    templates: Templates = field(init=False)
    stopping: bool = False
    """Told to end: no request is begun any more."""

    def __post_init__(self) -> None:
        self.templates = Templates(self.settings.template_seconds)
        self.turns = Turns(self.settings.max_in_flight, self.rows, self.per_row, share=self.settings.share_of_rows)

    def rows(self, model: str) -> int:
        """Answers that the Triton model makes at once, as its engine says; else as many as it was told to."""
        if model == EMBEDDER:
            return 1
        if model.startswith(f"{TEACHER}:"):
            return self.settings.teacher_in_flight
        status = self.statuses.get(model)
        return status.capacity if status and status.capacity > 0 else self.settings.max_sequences

    def per_row(self, model: str) -> float | None:
        """Tokens a second of one row among all, from what the engine measured; None where it did not."""
        status = self.statuses.get(model)
        if status is None or status.tokens_per_second <= 0:
            return None
        return slowed(status.tokens_per_second / max(1, status.rows), status.rows, status.capacity)

    def forget(self, model: str) -> None:
        """Drops what the engine of a Triton model said: it is gone, or another one comes."""
        self.statuses.pop(model, None)
        self.progress.pop(model, None)
        self.heard.pop(model, None)

    def suspect(self, model: str) -> None:
        """A request to the Triton model failed: the deployer looks at it now rather than at its next round."""
        self.suspects.add(model)
        self.wake.set()

    def answers(self, model: str) -> bool:
        """Whether the Triton model is loaded and not known to fail."""
        held = self.loaded.get(model)
        return self.up and held is not None and held.healthy


async def drain(runtime: Runtime) -> None:
    """Returns once no request is at work any more; none is begun from now on."""
    runtime.stopping = True
    await runtime.turns.ended()


async def stopping_check(runtime: Runtime) -> str | None:
    """Says that the gateway ends, so that requests go to another one: for /health/ready."""
    return f"being stopped; {runtime.turns.at_work} requests are at work still" if runtime.stopping else None


async def triton_check(runtime: Runtime) -> str | None:
    """What is wrong with Triton, None where nothing is: for /health/ready.

    A model that no project's production needs may fail to load: what answers goes on, and /v1/deployments tells.
    """
    if not runtime.up:
        at = f"{runtime.settings.triton_host}:{runtime.settings.triton_grpc_port}"
        return f"Triton does not answer at {at}; requests get 503 until it does"
    routes = runtime.routes
    needed = {routes.targets[name].triton_model for name in routes.production.values()}
    lacking = sorted(model for model in needed if not runtime.answers(model))
    return "; ".join(f"{model}: {runtime.faults.get(model, 'is being loaded')}" for model in lacking) or None


async def spool_check(runtime: Runtime) -> str | None:
    """What is wrong with the spool of records, None where nothing is: for /health/ready."""
    return runtime.record_fault
