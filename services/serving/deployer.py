"""Keeps Triton and the gateway's routes in step with what is wanted: a loop that looks, plans, acts and reports.

A new version answers once it has made a token; until then, and where it cannot, the one before goes on answering.
"""

import asyncio
import contextlib
import time
from collections import Counter
from collections.abc import Iterable
from dataclasses import dataclass, field, replace
from datetime import UTC, datetime
from typing import Any

from contracts.events.serving import DeploymentChangedV1
from services.chassis.context import Context
from services.serving.domain.reconcile import Action, Deployment, Place, Status, Unload, plan, production
from services.serving.domain.routing import build
from services.serving.domain.served_version import Standing, kept_of_all, with_bases
from services.serving.loading import carry_out, look, try_version
from services.serving.placing import Placed, bring
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


@dataclass(slots=True)
class DeployerState:
    """What the deployer remembers between rounds; all of it can be lost."""

    ctx: Context[Store]
    runtime: Runtime
    triton: Triton
    stamp: Any = None
    settled: bool = False
    look_at: float = 0.0
    placed: dict[Key, tuple[Standing, Placed]] = field(default_factory=dict[Key, tuple[Standing, Placed]])
    wanted: frozenset[Place] = frozenset()
    seen: dict[Promotion, float] = field(default_factory=dict[Promotion, float])
    failures: dict[Promotion, tuple[int, float]] = field(default_factory=dict[Promotion, tuple[int, float]])
    stalled: dict[str, float] = field(default_factory=dict[str, float])
    """Triton models whose load failed, and when it is tried again."""
    deaths: Counter[str] = field(default_factory=Counter[str])
    """How often in a row the process of a Triton model died while it was loaded."""


async def run(runtime: Runtime, ctx: Context[Store]) -> None:
    """Runs until it is cancelled."""
    settings = runtime.settings
    key_file = settings.home / "state" / "triton-admin-key"
    async with client.connect(f"{settings.triton_host}:{settings.triton_grpc_port}", key_file) as triton:
        runtime.triton = triton
        desk = DeployerState(ctx, runtime, triton)
        while True:
            try:
                await round_once(desk)
            except Exception:  # the loop is what repairs: whatever one round met, the next one tries again
                desk.settled = False
                ctx.log.exception("deployer.round_failed")
            with contextlib.suppress(TimeoutError):
                await asyncio.wait_for(runtime.wake.wait(), ROUND_SECONDS)
            runtime.wake.clear()


async def round_once(desk: DeployerState) -> None:
    """One look at Triton when it is due, and one reconciliation where anything differs."""
    runtime, now = desk.runtime, time.monotonic()
    if now >= desk.look_at or runtime.suspects:
        held = dict(runtime.loaded), runtime.up
        await look(runtime, desk.triton)
        desk.look_at = time.monotonic() + runtime.settings.check_seconds
        desk.settled = desk.settled and held == (runtime.loaded, runtime.up)
    stamp = await desk.ctx.read(lambda store: store.stamp())
    retry = any(at <= now for _, at in desk.failures.values())
    if stamp != desk.stamp or not desk.settled or retry:
        desk.settled = await _reconcile(desk)
        desk.stamp = stamp


async def _reconcile(desk: DeployerState) -> bool:
    """Brings, routes, loads, tries, switches, removes. Whether nothing is left to do."""
    settings = desk.runtime.settings
    standings, projects = await desk.ctx.read(lambda store: (store.standing(), store.projects.names()))
    wanted = kept_of_all(standings, settings.keep_versions)
    keep = [s for s in wanted if s.prompt is not None]
    _remember(desk, keep)
    placed = await _bring_all(desk, with_bases(keep) if settings.serve_base else keep)
    _route(desk, placed, projects)
    lingering = desk.wanted - {p.place for _, p in placed}  # requests routed a moment ago may still need these
    desk.wanted = frozenset(p.place for _, p in placed)
    actions = plan(desk.wanted | lingering, desk.runtime.loaded) if desk.runtime.up else ()
    done = await _act(desk, [a for a in actions if not isinstance(a, Unload)], placed)
    switched = await _try_new(desk, placed) if desk.runtime.up else False
    done &= await _act(desk, [a for a in actions if isinstance(a, Unload)], placed)
    for standing in standings:
        if standing not in wanted and standing.deployment.status != "removed":
            await _settle(desk, standing, "removed", f"only the last {settings.keep_versions} promotions are kept")
    return desk.runtime.up and done and not lingering and not switched


def _remember(desk: DeployerState, keep: list[Standing]) -> None:
    """When each promotion was first seen; what is no longer kept is forgotten."""
    now, promotions = time.monotonic(), {_promotion(s.deployment) for s in keep}
    desk.seen = {p: desk.seen.get(p, now) for p in promotions}
    desk.failures = {p: f for p, f in desk.failures.items() if p in promotions}


async def _bring_all(desk: DeployerState, standings: list[Standing]) -> list[tuple[Standing, Placed]]:
    """The versions whose files are here. One whose files cannot be had fails; the others go on."""
    found: list[tuple[Standing, Placed]] = []
    for standing in standings:
        before = desk.placed.get(standing.key)
        if before is not None and before[0] == standing:
            found.append(before)
        elif _may_try(desk, standing.deployment):
            try:
                placed = await asyncio.to_thread(bring, desk.ctx.artifacts, desk.runtime.settings, standing)
                found.append((standing, placed))
            except Exception as fault:  # whatever the store or the disk met is this version's alone
                await _fail(desk, standing, f"its files cannot be brought: {fault}")
    desk.placed = {standing.key: (standing, placed) for standing, placed in found}
    return found


def _route(desk: DeployerState, placed: list[tuple[Standing, Placed]], projects: Iterable[str]) -> None:
    """Routes what has answered before, and every base; what is new is routed when it has answered."""
    targets = [p.target for s, p in placed if s.deployment.answered or s.deployment.version == 0]
    by_project: dict[str, list[Deployment]] = {}
    for standing, _ in placed:
        by_project.setdefault(standing.deployment.project, []).append(standing.deployment)
    now = {project: production(group) for project, group in by_project.items()}
    desk.runtime.routes = build(targets, {p: d.version for p, d in now.items() if d}, projects)


async def _act(desk: DeployerState, actions: list[Action], placed: list[tuple[Standing, Placed]]) -> bool:
    """Does the actions; what waits on a load that fails, fails with it. Whether all are done."""
    done = True
    for action in actions:
        if desk.stalled.get(action.model, 0.0) > time.monotonic():
            done = False
            continue
        try:
            await carry_out(desk.runtime, desk.triton, action, [p for _, p in placed])
            desk.stalled.pop(action.model, None)
            desk.deaths.pop(action.model, None)
            desk.ctx.log.info("deployer.done", action=type(action).__name__, model=action.model)
        except client.Unavailable as fault:
            _stall(desk, action.model, fault, 2 * ROUND_SECONDS)
            desk.look_at = 0.0
            return False
        except client.TritonFault as fault:
            done = False
            if isinstance(fault, client.ModelNotReady) and desk.deaths[action.model] < DEATHS:
                desk.deaths[action.model] += 1
                _stall(desk, action.model, fault, 2 * ROUND_SECONDS)
                continue
            _stall(desk, action.model, fault, RETRY_SECONDS[0])
            desk.ctx.log.error("deployer.load_failed", model=action.model, detail=str(fault)[:2000])
            for standing, p in placed:
                if p.place.model == action.model and _is_new(desk, standing.deployment):
                    await _fail(desk, standing, f"Triton cannot load {action.model}: {fault}")
    return done


def _stall(desk: DeployerState, model: str, fault: Exception, seconds: float) -> None:
    """Lets a Triton model be for a while, and says why."""
    desk.runtime.faults[model] = str(fault)[:500]
    desk.stalled[model] = time.monotonic() + seconds


async def _try_new(desk: DeployerState, placed: list[tuple[Standing, Placed]]) -> bool:
    """Switches to each new version that answers a probe. Whether any state changed."""
    changed = False
    for standing, version in sorted(placed, key=lambda pair: pair[0].deployment.sequence):
        if not _is_new(desk, standing.deployment) or not desk.runtime.answers(version.place.model):
            continue
        try:
            await try_version(desk.runtime, desk.triton, version, [p for _, p in placed])
            answered = replace(standing.deployment, answered=standing.deployment.sequence, status="deployed")
            placed = [(replace(s, deployment=answered) if s is standing else s, p) for s, p in placed]
            _route(desk, placed, desk.runtime.routes.projects)  # before the event: whoever reads it asks the new one
            await _settle(desk, standing, "deployed", "")
            changed = True
        except client.Unavailable:
            desk.runtime.suspect(version.place.model)
            return True
        except client.TritonFault as fault:
            await _fail(desk, standing, f"it does not answer a probe: {fault}")
    return changed


def _is_new(desk: DeployerState, deployment: Deployment) -> bool:
    """Whether a promotion has not had its end yet, or may be tried once more."""
    return deployment.sequence > 0 and deployment.status in ("pending", "failed") and _may_try(desk, deployment)


def _promotion(deployment: Deployment) -> Promotion:
    return deployment.project, deployment.version, deployment.sequence


def _may_try(desk: DeployerState, deployment: Deployment) -> bool:
    _, at = desk.failures.get(_promotion(deployment), (0, 0.0))
    return at <= time.monotonic()


async def _fail(desk: DeployerState, standing: Standing, why: str) -> None:
    """Notes a failure and when to try again; the event is emitted once a promotion."""
    d = standing.deployment
    promotion = _promotion(d)
    count = desk.failures.get(promotion, (0, 0.0))[0]
    pause = RETRY_SECONDS[count] if count < len(RETRY_SECONDS) else float("inf")
    desk.failures[promotion] = count + 1, time.monotonic() + pause
    desk.ctx.log.error(
        "deployer.version_failed", project=d.project, version=d.version, detail=why[:2000], retry_seconds=pause
    )
    if d.status == "pending":
        await _settle(desk, standing, "failed", why[:2000])


async def _settle(desk: DeployerState, standing: Standing, status: Status, detail: str) -> None:
    """Writes down how a promotion ended, with its event, in one transaction."""
    d, now = standing.deployment, datetime.now(UTC)
    seconds = time.monotonic() - desk.seen.get(_promotion(d), time.monotonic())

    def change(store: Store) -> tuple[bool, list[DeploymentChangedV1]]:
        noted = store.settle(d.model, d.sequence, status, detail, now)
        event = _changed(d, status, detail, seconds)
        return noted, [event] if noted and event else []

    await desk.ctx.transact(change, cause=f"deployment {d.project}@{d.version} {d.sequence} {status}", at=now)
    if status == "deployed":
        desk.failures.pop(_promotion(d), None)
    if desk.runtime.figures:
        desk.runtime.figures.deployments.labels(status).inc()


def _changed(d: Deployment, status: Status, detail: str, seconds: float) -> DeploymentChangedV1 | None:
    if status == "pending" or (status == "removed" and not d.answered):
        return None
    return DeploymentChangedV1(project=d.project, model=d.model, status=status, detail=detail, seconds=seconds)
