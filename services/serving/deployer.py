"""Keeps Triton and the gateway's routes in step with what is wanted: a loop that looks, plans, acts and reports.

A new version answers once it has made a token; until then, and where it cannot, the one before goes on answering.
"""

import asyncio
import time
from collections import Counter
from dataclasses import dataclass, field, replace
from datetime import UTC, datetime

from contracts.events.serving import DeploymentChangedV1
from services.chassis.context import Context
from services.chassis.timeouts import wait_at_most
from services.serving.domain.reconcile import Action, Deployment, Outcome, TritonTarget, Unload, plan, production
from services.serving.domain.routing import build
from services.serving.domain.served_version import (
    ServedVersion,
    deployment_changed,
    kept_of_all,
    seen_here,
    with_bases,
)
from services.serving.model_files import MaterialisedVersion, materialise
from services.serving.model_loading import carry_out, look, try_version
from services.serving.runtime import Runtime
from services.serving.store import Store
from services.serving.triton import client
from services.serving.triton.client import Triton

ROUND_SECONDS = 1.0
RETRY_SECONDS = (30.0, 120.0, 600.0)
"""After these pauses a failed version is tried again, then not until it is promoted again or serving restarts."""

DEATHS = 3
"""So often a model's process may be killed while it loads before that counts as the version's own fault."""

Key = tuple[str, int]
Promotion = tuple[str, int, int]
Materialised = tuple[ServedVersion, MaterialisedVersion]


@dataclass(slots=True)
class DeployerState:
    """What the deployer remembers between rounds; all of it can be lost."""

    ctx: Context[Store]
    runtime: Runtime
    triton: Triton
    change: int | None = None
    is_settled: bool = False
    look_at: float = 0.0
    materialised: dict[Key, Materialised] = field(default_factory=dict[Key, Materialised])
    wanted: frozenset[TritonTarget] = frozenset()
    projects: dict[str, bool] = field(default_factory=dict[str, bool])
    """Every known project, and whether it is out of service."""
    answered: dict[Key, int] = field(default_factory=dict[Key, int])
    """With which promotion each version answered last in this instance's own Triton."""
    seen: dict[Promotion, float] = field(default_factory=dict[Promotion, float])
    failures: dict[Promotion, tuple[int, float]] = field(default_factory=dict[Promotion, tuple[int, float]])
    stalled: dict[str, float] = field(default_factory=dict[str, float])
    """Triton models whose load failed, and when it is tried again."""
    deaths: Counter[str] = field(default_factory=Counter[str])
    """How often in a row the process of a Triton model died while it was loaded."""


async def run(runtime: Runtime, ctx: Context[Store]) -> None:
    """Runs until it is cancelled."""
    settings = runtime.settings
    async with client.connect(f"{settings.triton_host}:{settings.triton_grpc_port}") as triton:
        runtime.triton = triton
        state = DeployerState(ctx, runtime, triton)
        while True:
            try:
                await round_once(state)
            except Exception:  # the loop is what repairs: whatever one round met, the next one tries again
                state.is_settled = False
                ctx.log.exception("deployer.round_failed")
            await wait_at_most(runtime.wake, ROUND_SECONDS)
            runtime.wake.clear()


async def round_once(state: DeployerState) -> None:
    """One look at Triton when it is due, and one reconciliation where anything differs."""
    runtime, now = state.runtime, time.monotonic()
    if now >= state.look_at or runtime.suspects:
        held = dict(runtime.loaded), runtime.up
        await look(runtime, state.triton)
        state.look_at = time.monotonic() + runtime.settings.check_seconds
        state.is_settled = state.is_settled and held == (runtime.loaded, runtime.up)
    change = await state.ctx.read(lambda store: store.change_number())
    retry = any(at <= now for _, at in state.failures.values())
    if change != state.change or not state.is_settled or retry:
        state.is_settled = await _reconcile(state)
        state.change = change


async def _reconcile(state: DeployerState) -> bool:
    """Brings, routes, loads, tries, switches, removes. Whether nothing is left to do."""
    settings = state.runtime.settings
    versions, state.projects = await state.ctx.read(lambda store: (store.live_versions(), _projects(store)))
    wanted = kept_of_all(versions, settings.keep_versions)
    keep = [s for s in _kept_here(state, versions, wanted) if s.prompt is not None]
    _remember(state, keep)
    materialised = await _materialise_all(state, with_bases(keep) if settings.serve_base else keep)
    _route(state, materialised)
    targets = frozenset(p.triton_target for _, p in materialised)
    lingering, state.wanted = state.wanted - targets, targets  # requests routed a moment ago may still need the former
    actions = plan(state.wanted | lingering, state.runtime.loaded) if state.runtime.up else ()
    done = await _act(state, [a for a in actions if not isinstance(a, Unload)], materialised)
    switched = await _try_new(state, materialised) if state.runtime.up else False
    done &= await _act(state, [a for a in actions if isinstance(a, Unload)], materialised)
    for version in versions:
        if version not in wanted:
            await _set_status(state, version, "removed", f"only the last {settings.keep_versions} promotions are kept")
    return state.runtime.up and done and not lingering and not switched


def _projects(store: Store) -> dict[str, bool]:
    """Every known project, and whether it is out of service."""
    return {name: store.projects.is_retired(name) for name in store.projects.names()}


def _kept_here(state: DeployerState, versions: list[ServedVersion], wanted: list[ServedVersion]) -> list[ServedVersion]:
    """`wanted` and what answers here until that does, with what this instance's own Triton answered and no other's.

    Another instance on the same database may have switched, and let the version before go, long ago. A restarted one
    takes up what had answered.
    """
    if state.change is None:
        state.answered = {s.key: s.deployment.answered for s in versions if s.deployment.answered}
    held = [served for served, _ in state.materialised.values() if served.deployment.sequence]
    return seen_here(versions, wanted, held, state.answered, state.runtime.settings.keep_versions)


def _remember(state: DeployerState, keep: list[ServedVersion]) -> None:
    """When each promotion was first seen; what is no longer kept is forgotten."""
    now, promotions = time.monotonic(), {_promotion(s.deployment) for s in keep}
    state.answered = {s.key: s.deployment.answered for s in keep if s.deployment.answered}
    state.seen = {p: state.seen.get(p, now) for p in promotions}
    state.failures = {p: f for p, f in state.failures.items() if p in promotions}


async def _materialise_all(state: DeployerState, versions: list[ServedVersion]) -> list[Materialised]:
    """The versions whose files are here. One whose files cannot be had fails; the others go on."""
    found: list[Materialised] = []
    for served in versions:
        before = state.materialised.get(served.key)
        if before is not None and before[0] == served:
            found.append(before)
        elif _may_try(state, served.deployment):
            try:
                materialised = await asyncio.to_thread(materialise, state.ctx.artifacts, state.runtime.settings, served)
                found.append((served, materialised))
            except Exception as fault:  # whatever the store or the disk met is this version's alone
                await _fail(state, served, f"its files cannot be brought: {fault}")
    state.materialised = {served.key: (served, materialised) for served, materialised in found}
    return found


def _route(state: DeployerState, materialised: list[Materialised]) -> None:
    """Routes what has answered before, and every base; what is new is routed when it has answered."""
    out = [project for project, retired in state.projects.items() if retired]
    targets = [p.target for s, p in materialised if s.deployment.answered or s.deployment.version == 0]
    by_project: dict[str, list[Deployment]] = {}
    for served, _ in materialised:
        by_project.setdefault(served.deployment.project, []).append(served.deployment)
    now = {project: production(group) for project, group in by_project.items()}
    state.runtime.routes = build(targets, {p: d.version for p, d in now.items() if d}, state.projects, out)


async def _act(state: DeployerState, actions: list[Action], materialised: list[Materialised]) -> bool:
    """Does the actions; what waits on a load that fails, fails with it. Whether all are done."""
    done = True
    for action in actions:
        if state.stalled.get(action.model, 0.0) > time.monotonic():
            done = False
            continue
        try:
            await carry_out(state.runtime, state.triton, action, [p for _, p in materialised])
            state.stalled.pop(action.model, None)
            state.deaths.pop(action.model, None)
            state.ctx.log.info("deployer.done", action=type(action).__name__, model=action.model)
        except client.Unavailable as fault:
            _stall(state, action.model, fault, 2 * ROUND_SECONDS)
            state.look_at = 0.0
            return False
        except client.TritonFault as fault:
            done = False
            if isinstance(fault, client.ModelNotReady) and state.deaths[action.model] < DEATHS:
                state.deaths[action.model] += 1
                _stall(state, action.model, fault, 2 * ROUND_SECONDS)
                continue
            _stall(state, action.model, fault, RETRY_SECONDS[0])
            state.ctx.log.error("deployer.load_failed", model=action.model, detail=str(fault)[:2000])
            for served, p in materialised:
                if p.triton_target.model == action.model and _is_new(state, served.deployment):
                    await _fail(state, served, f"Triton cannot load {action.model}: {fault}")
    return done


def _stall(state: DeployerState, model: str, fault: Exception, seconds: float) -> None:
    """Lets a Triton model be for a while, and says why."""
    state.runtime.faults[model] = str(fault)[:500]
    state.stalled[model] = time.monotonic() + seconds


async def _try_new(state: DeployerState, materialised: list[Materialised]) -> bool:
    """Switches to each new version that answers a probe. Whether any state changed."""
    changed = False
    for served, version in sorted(materialised, key=lambda pair: pair[0].deployment.sequence):
        if not _is_new(state, served.deployment) or not state.runtime.answers(version.triton_target.model):
            continue
        try:
            await try_version(state.runtime, state.triton, version, [p for _, p in materialised])
            answered = replace(served.deployment, answered=served.deployment.sequence)
            state.answered[served.key] = answered.answered
            materialised = [(replace(s, deployment=answered) if s is served else s, p) for s, p in materialised]
            _route(state, materialised)  # before the event: whoever reads it asks the new one
            await _set_status(state, served, "deployed", "")
            changed = True
        except client.Unavailable:
            state.runtime.suspect(version.triton_target.model)
            return True
        except client.TritonFault as fault:
            await _fail(state, served, f"it does not answer a probe: {fault}")
    return changed


def _is_new(state: DeployerState, deployment: Deployment) -> bool:
    """Whether a promotion has not answered here yet and may be tried, be it once more."""
    return deployment.answered < deployment.sequence and _may_try(state, deployment)


def _promotion(deployment: Deployment) -> Promotion:
    return deployment.project, deployment.version, deployment.sequence


def _may_try(state: DeployerState, deployment: Deployment) -> bool:
    _, at = state.failures.get(_promotion(deployment), (0, 0.0))
    return at <= time.monotonic()


async def _fail(state: DeployerState, served: ServedVersion, why: str) -> None:
    """Notes a failure and when to try again; the event is emitted once a promotion."""
    d = served.deployment
    promotion = _promotion(d)
    count = state.failures.get(promotion, (0, 0.0))[0]
    pause = RETRY_SECONDS[count] if count < len(RETRY_SECONDS) else float("inf")
    state.failures[promotion] = count + 1, time.monotonic() + pause
    state.ctx.log.error(
        "deployer.version_failed", project=d.project, version=d.version, detail=why[:2000], retry_seconds=pause
    )
    if d.status == "pending":
        await _set_status(state, served, "failed", why[:2000])


async def _set_status(state: DeployerState, served: ServedVersion, status: Outcome, detail: str) -> None:
    """Writes down how a promotion ended, with its event, in one transaction; another instance may have done so before."""
    d, now = served.deployment, datetime.now(UTC)
    seconds = time.monotonic() - state.seen.get(_promotion(d), time.monotonic())

    def change(store: Store) -> tuple[bool, list[DeploymentChangedV1]]:
        noted = store.set_status(d.model, d.sequence, status, detail, now)
        told = noted and (status != "removed" or d.answered > 0)
        return noted, [deployment_changed(d, status, detail, seconds)] if told else []

    cause = f"deployment {d.project}@{d.version} {d.sequence} {status}"
    noted = await state.ctx.transact(change, cause=cause, at=now)
    if status == "deployed":
        state.failures.pop(_promotion(d), None)
    if noted and state.runtime.metrics:
        state.runtime.metrics.deployments.labels(status).inc()
