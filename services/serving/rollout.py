"""The steps that bring the versions of one Triton model into service: bring files, load or list, try, switch.

Each is a task of its model's own, so that a slow one delays no other model's; what comes next is planned anew when it ends.
"""

import asyncio
import time
from collections.abc import Awaitable, Callable
from dataclasses import replace
from datetime import UTC, datetime
from functools import partial

from contracts.events.serving import DeploymentChangedV1
from services.serving import applied_bases
from services.serving.deployer_state import ROUND_SECONDS, DeployerState, promotion
from services.serving.domain.reconcile import List, Load, Outcome
from services.serving.domain.served_version import ServedVersion, deployment_changed
from services.serving.model_files import MaterialisedVersion, materialise
from services.serving.model_loading import carry_out, try_version
from services.serving.store import Store
from services.serving.triton import client

RETRY_SECONDS = (30.0, 120.0, 600.0)
"""After these pauses a failed version is tried again, then not until it is promoted again or serving restarts."""

DEATHS = 3
"""So often a model's process may be killed while it loads before that counts as the version's own fault."""


async def step(state: DeployerState, model: str, work: Callable[[], Awaitable[None]]) -> None:
    """Does `work` for a Triton model and wakes the deployer, which plans anew."""
    try:
        await work()
    except Exception as fault:  # the loop is what repairs: whatever a step met, a later round tries again
        state.ctx.log.exception("deployer.step_failed", model=model)
        state.stall(model, fault, 2 * ROUND_SECONDS)
    else:
        state.runtime.wake.set()


async def find_base(state: DeployerState, name: str) -> None:
    """Looks for the base of this name, which projects of which nothing was promoted wait for."""
    try:
        base = await asyncio.to_thread(applied_bases.find, name, state.runtime.settings, state.ctx.artifacts)
    except Exception as fault:  # whatever the hub, the disk or the store met: it is looked for again
        why = applied_bases.said(fault)
        state.bases.refuse(name, why)
        state.ctx.log.warning(
            "deployer.base_not_found", base=name, detail=why, retry_seconds=applied_bases.RETRY_SECONDS
        )
    else:
        state.bases.take(base)
        state.ctx.log.info("deployer.base_found", base=name, digest=base.digest)


async def bring(state: DeployerState, versions: list[ServedVersion]) -> None:
    """Brings the files of versions, one after the other. One whose files cannot be had fails; the others go on."""
    runtime = state.runtime
    for served in versions:
        try:
            work = partial(materialise, state.ctx.artifacts, runtime.settings, runtime.templates, served)
            found = await asyncio.to_thread(work)
        except Exception as fault:  # whatever the store or the disk met is this version's alone
            await fail(state, served, f"its files cannot be brought: {fault}")
        else:
            if found.target.template is not None:
                runtime.templates.start(found.target.template)
            state.materialised[served.key] = served, found
            state.route()


async def change(state: DeployerState, action: Load | List, versions: list[ServedVersion]) -> None:
    """Loads a Triton model or lists its adapters; what waits on a load that fails, fails with it."""
    model = action.model
    try:
        await carry_out(state.runtime, state.triton, action, state.here(model))
        state.stalled.pop(model, None)
        state.deaths.pop(model, None)
        state.ctx.log.info("deployer.done", action=type(action).__name__, model=model)
    except client.Unavailable as fault:
        state.stall(model, fault, 2 * ROUND_SECONDS)
        state.look_at = 0.0
    except client.TritonFault as fault:
        if isinstance(fault, client.ModelNotReady) and state.deaths[model] < DEATHS:
            state.deaths[model] += 1
            state.stall(model, fault, 2 * ROUND_SECONDS)
            return
        state.stall(model, fault, RETRY_SECONDS[0])
        state.ctx.log.error("deployer.load_failed", model=model, detail=str(fault)[:2000])
        for served in versions:
            if served.key in state.materialised and state.is_new(served.deployment):
                await fail(state, served, f"Triton cannot load {model}: {fault}")


async def switch(state: DeployerState, served: ServedVersion, version: MaterialisedVersion) -> None:
    """Switches to a new version if it answers a probe."""
    model = version.triton_target.model
    try:
        await try_version(state.runtime, state.triton, version, state.here(model))
    except client.Unavailable:
        state.runtime.suspect(model)
    except client.TritonFault as fault:
        await fail(state, served, f"it does not answer a probe: {fault}")
    else:
        answered = replace(served.deployment, answered=served.deployment.sequence)
        state.answered[served.key] = answered.answered
        state.versions = [replace(s, deployment=answered) if s.key == served.key else s for s in state.versions]
        state.route()  # before the event: whoever reads it asks the new one
        await set_status(state, served, "deployed", "")


async def fail(state: DeployerState, served: ServedVersion, why: str) -> None:
    """Notes a failure and when to try again; the event is emitted once a promotion."""
    d = served.deployment
    count = state.failures.get(promotion(d), (0, 0.0))[0]
    pause = RETRY_SECONDS[count] if count < len(RETRY_SECONDS) else float("inf")
    state.failures[promotion(d)] = count + 1, time.monotonic() + pause
    state.ctx.log.error(
        "deployer.version_failed", project=d.project, version=d.version, detail=why[:2000], retry_seconds=pause
    )
    if d.status == "pending":
        await set_status(state, served, "failed", why[:2000])


async def set_status(state: DeployerState, served: ServedVersion, status: Outcome, detail: str) -> None:
    """Writes down how a promotion ended, with its event, in one transaction; another instance may have done so before."""
    d, now = served.deployment, datetime.now(UTC)
    seconds = time.monotonic() - state.seen.get(promotion(d), time.monotonic())

    def change(store: Store) -> tuple[bool, list[DeploymentChangedV1]]:
        noted = store.set_status(d.model, d.sequence, status, detail, now)
        told = noted and (status != "removed" or d.answered > 0)
        return noted, [deployment_changed(d, status, detail, seconds)] if told else []

    cause = f"deployment {d.project}@{d.version} {d.sequence} {status}"
    noted = await state.ctx.transact(change, cause=cause, at=now)
    if status == "deployed":
        state.failures.pop(promotion(d), None)
    if noted and state.runtime.metrics:
        state.runtime.metrics.deployments.labels(status).inc()
