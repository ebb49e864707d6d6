"""Keeps Triton and the gateway's routes in step with what is wanted: a loop that looks, plans and starts what is to be done.

A new version answers once it has made a token; until then, and where it cannot, the one before goes on answering. Each
Triton model has a task of its own for what takes time (services/serving/rollout.py): none waits for another's.
"""

import asyncio
import time
from collections.abc import Awaitable, Callable, Collection
from functools import partial

from services.chassis.context import Context
from services.chassis.timeouts import wait_at_most
from services.serving import rollout
from services.serving.deployer_state import ROUND_SECONDS, DeployerState, Kind
from services.serving.domain.reconcile import List, Load, Unload, plan, triton_target
from services.serving.domain.served_version import Applied, ServedVersion, kept_of_all, seen_here, with_bases
from services.serving.domain.teacher_routing import teacher_target
from services.serving.model_loading import carry_out, look
from services.serving.runtime import Runtime
from services.serving.store import Store
from services.serving.triton import client


async def run(runtime: Runtime, ctx: Context[Store]) -> None:
    """Runs until it is cancelled."""
    settings = runtime.settings
    async with client.connect(f"{settings.triton_host}:{settings.triton_grpc_port}") as triton:
        runtime.triton = triton
        state = DeployerState(ctx, runtime, triton)
        try:
            while True:
                try:
                    await round_once(state)
                except Exception:  # the loop is what repairs: whatever one round met, the next one tries again
                    state.is_settled = False
                    ctx.log.exception("deployer.round_failed")
                await wait_at_most(runtime.wake, ROUND_SECONDS)
                runtime.wake.clear()
        finally:
            tasks = [*state.finding.values(), *state.bringing.values(), *(task for _, task in state.tasks.values())]
            for task in tasks:
                task.cancel()
            await asyncio.gather(*tasks, return_exceptions=True)


async def round_once(state: DeployerState) -> None:
    """One look at Triton when it is due, and one reconciliation where anything differs."""
    runtime, now = state.runtime, time.monotonic()
    if now >= state.look_at or runtime.suspects:
        held = dict(runtime.loaded), runtime.up
        state.look_at = now + runtime.settings.check_seconds
        await look(runtime, state.triton, state.loading())
        state.is_settled = state.is_settled and held == (runtime.loaded, runtime.up)
        _give_up_tries(state)
    change = await state.ctx.read(lambda store: store.change_number())
    retry = any(at <= now for _, at in state.failures.values()) or state.bases.due(now)
    if change != state.change or not state.is_settled or retry:
        state.is_settled = True  # whatever ends or is met meanwhile says otherwise
        state.is_settled = await _reconcile(state) and state.is_settled
        state.change = change


def _give_up_tries(state: DeployerState) -> None:
    """Ends the try of a version in a model that is dead: it would wait for its probe, and the reload for it."""
    for model, (kind, task) in state.tasks.items():
        if kind == "try" and state.runtime.up and not state.runtime.answers(model):
            task.cancel()


async def _reconcile(state: DeployerState) -> bool:
    """Routes, starts what is to be brought, loaded, listed or tried, removes. Whether nothing is left to do."""
    settings = state.runtime.settings
    versions, applied, state.projects, taught = await state.ctx.read(_wanted)
    state.teachers = [target for each in taught if (target := teacher_target(each)) is not None]
    wanted = kept_of_all(versions, settings.keep_versions)
    keep = [s for s in _kept_here(state, versions, wanted) if s.prompt is not None]
    state.remember(keep)
    state.bases.projects = tuple(applied) if settings.serve_base else ()
    state.serve([*with_bases(keep), *state.bases.served()] if settings.serve_base else keep)
    _find_bases(state)
    state.route()
    groups: dict[str, list[ServedVersion]] = {}
    for served in sorted(state.versions, key=lambda s: s.deployment.sequence):
        groups.setdefault(triton_target(served.deployment).model, []).append(served)
    done = [_advance(state, model, group) for model, group in groups.items()]
    done.append(await _unload(state, groups.keys()))
    for version in versions:
        if version not in wanted:
            detail = f"only the last {settings.keep_versions} promotions are kept"
            await rollout.set_status(state, version, "removed", detail)
    return state.runtime.up and all(done) and not state.lingering


def _wanted(store: Store) -> tuple[list[ServedVersion], list[Applied], dict[str, bool], list[Applied]]:
    """The versions that live, the projects without any, every known project, and those with a teacher."""
    versions = store.live_versions()
    without = store.applied({version.deployment.project for version in versions})
    return versions, without, _projects(store), store.taught()


def _find_bases(state: DeployerState) -> None:
    """Starts to look for each base that a project names and nobody has found."""
    for name in state.bases.sought(time.monotonic()):
        if name not in state.finding:
            task = state.finding[name] = asyncio.create_task(rollout.find_base(state, name))
            task.add_done_callback(lambda _, name=name: _base_looked_for(state, name))


def _base_looked_for(state: DeployerState, name: str) -> None:
    """Lets the next round begin at once, which serves the base that was found."""
    del state.finding[name]
    state.is_settled = False
    state.runtime.wake.set()


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


def _advance(state: DeployerState, model: str, group: list[ServedVersion]) -> bool:
    """Starts what is to be done next for a Triton model whose versions these are, oldest promotion first; whether nothing is."""
    lacking = [s for s in group if not state.is_here(s) and state.may_try(s.deployment)]
    if lacking and model not in state.bringing:
        _start(state, model, "bring", partial(rollout.bring, state, lacking))
    if lacking and model not in state.runtime.generations:
        return False  # its first load takes all of its adapters at once
    return _change(state, model, group) and not lacking


def _change(state: DeployerState, model: str, group: list[ServedVersion]) -> bool:
    """Starts the load of a Triton model, a list of its adapters, or the try of its next version; whether none is to be."""
    if model in state.tasks or not state.runtime.up:
        return False
    here, loaded = state.here(model), state.runtime.loaded
    held = {model: loaded[model]} if model in loaded else {}
    for action in plan([p.triton_target for p in here], held) if here else ():
        if isinstance(action, Load | List):
            if state.stalled.get(model, 0.0) <= time.monotonic():
                _start(state, model, "change", partial(rollout.change, state, action, group))
            return False
    for served in group:
        if state.is_new(served.deployment) and served.key in state.materialised:
            version = state.materialised[served.key][1]
            _start(state, model, "try", partial(rollout.switch, state, served, version))
            return False
    return True


async def _unload(state: DeployerState, wanted: Collection[str]) -> bool:
    """Unloads what nobody wants and no task works on; a task for such a model is ended. Whether nothing of the kind is left."""
    needed = {*wanted, *(target.model for target in state.lingering)}
    gone = (state.runtime.loaded.keys() | state.touched) - needed
    for model in gone & state.tasks.keys():
        state.tasks[model][1].cancel()
    for model in sorted(gone - state.tasks.keys()) if state.runtime.up else ():
        await carry_out(state.runtime, state.triton, Unload(model), ())
        state.touched.discard(model)
        state.ctx.log.info("deployer.done", action="Unload", model=model)
    return not gone


def _start(state: DeployerState, model: str, kind: Kind, work: Callable[[], Awaitable[None]]) -> None:
    """Starts a task for a Triton model, which the next round follows."""
    task = asyncio.create_task(rollout.step(state, model, work))

    def ended(task: asyncio.Task[None]) -> None:
        state.is_settled = False
        if task.cancelled():
            state.runtime.wake.set()  # what it held up begins at once
        if kind == "bring":
            del state.bringing[model]
        else:
            del state.tasks[model]

    if kind == "bring":
        state.bringing[model] = task
    else:
        state.tasks[model] = kind, task
        state.touched.add(model)
    task.add_done_callback(ended)
