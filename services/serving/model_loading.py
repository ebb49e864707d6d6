"""Makes Triton hold what a plan says, and looks whether it still does. Decides nothing about versions."""

import asyncio
import math
import time
from collections.abc import Collection, Iterable
from pathlib import Path

from services.lm.base_files import read_rank
from services.serving.domain.liveness import follow
from services.serving.domain.reconcile import Action, List, Load, Loaded
from services.serving.model_files import MaterialisedVersion
from services.serving.runtime import Runtime
from services.serving.settings import ServingSettings
from services.serving.triton import client, layout
from services.serving.triton.client import Triton

ALIVE = ("READY", "LOADING")
"""Triton's states of what it holds."""


async def look(runtime: Runtime, triton: Triton, changing: Collection[str] = ()) -> None:
    """Notes whether Triton lives, which models it lost, and which make no progress or fail a probe.

    Of models that a task is `changing` it says nothing.
    """
    was_up = runtime.up
    runtime.up = await client.live(triton)
    if runtime.up and not was_up:
        runtime.suspects.update(runtime.loaded)
    try:
        for model in runtime.loaded.keys() - set(changing) if runtime.up else ():
            generation = runtime.generations[model]
            if not await client.ready(triton, generation) and runtime.generations.get(model) == generation:
                del runtime.loaded[model]
                runtime.restarts[model] += 1
                runtime.forget(model)
        await _judge_all(runtime, triton, changing)
    except client.Unavailable:
        runtime.up = await client.live(triton)
    if runtime.metrics:
        runtime.metrics.triton_up.set(runtime.up)


async def _judge_all(runtime: Runtime, triton: Triton, changing: Collection[str]) -> None:
    """Triton calls a model ready whose process was killed or stands still: its engine tells, in time and without a queue.

    Where one died the others are asked too.
    """
    judged = runtime.loaded.keys() - set(changing)
    suspects, runtime.suspects = runtime.suspects & judged, set()
    asked = sorted(model for model in judged if runtime.loaded[model].healthy or model in suspects)
    generations = {model: runtime.generations[model] for model in asked}
    lives = await asyncio.gather(*(_lives(runtime, triton, model, model in suspects) for model in asked))
    same = [(m, alive) for m, alive in zip(asked, lives, strict=True) if runtime.generations.get(m) == generations[m]]
    dead = [model for model, alive in same if not alive]
    if dead:
        runtime.up = await client.live(triton)
    for model in dead:
        runtime.loaded[model] = Loaded(runtime.loaded[model].adapters, healthy=False)
        runtime.forget(model)
    if dead:
        runtime.suspects.update(m for m, held in runtime.loaded.items() if held.healthy and m not in suspects)
    for model in {model for model, alive in same if alive and model in suspects}:
        listed = await asyncio.to_thread(layout.read_adapters, repository(runtime.settings), model)
        runtime.loaded[model] = Loaded(runtime.loaded[model].adapters & listed.keys())


async def _lives(runtime: Runtime, triton: Triton, model: str, suspected: bool) -> bool:
    """Whether a model's engine says in time how far it is, and moves while it has work; a token that came says so too.

    A suspect without work is probed as well, where the probe waits behind nobody, and so is one whose backend does not tell.
    """
    settings, generation = runtime.settings, runtime.generations[model]
    try:
        if (moves := await _moves(runtime, triton, model)) is not None:
            return moves
        if suspected:
            await client.probe(triton, generation, seconds=settings.probe_seconds)
    except client.Unavailable:
        return time.perf_counter() - runtime.heard.get(model, -math.inf) < settings.status_seconds
    except client.TritonFault:
        return False
    return True


async def _moves(runtime: Runtime, triton: Triton, model: str) -> bool | None:
    """Whether an engine with work at hand moves; None from one without, and from a backend that does not tell."""
    generation = runtime.generations[model]
    status = await client.status(triton, generation, runtime.settings.status_seconds)
    if status is None or runtime.generations.get(model) != generation:
        return None
    now, at_work = time.monotonic(), status.rows + status.queue > 0
    runtime.statuses[model] = status
    runtime.progress[model] = follow(runtime.progress.get(model), status.steps, at_work, now)
    return not runtime.progress[model].stalled(now, runtime.settings.stall_seconds) if at_work else None


async def carry_out(
    runtime: Runtime, triton: Triton, action: Action, materialised: Iterable[MaterialisedVersion]
) -> None:
    """Does one action; what Triton then holds stands in `runtime.loaded`.

    Raises:
        TritonFault: it cannot.
    """
    here = [p for p in materialised if p.triton_target.model == action.model]
    if isinstance(action, Load):
        await _load(runtime, triton, action, here)
    elif isinstance(action, List):
        await asyncio.to_thread(layout.write_adapters, repository(runtime.settings), action.model, _adapters(here))
        runtime.loaded[action.model] = Loaded(action.adapters)
    else:
        await asyncio.to_thread(layout.remove_model, repository(runtime.settings), action.model)
        runtime.loaded.pop(action.model, None)
        runtime.generations.pop(action.model, None)
        runtime.forget(action.model)
    runtime.faults.pop(action.model, None)


async def try_version(
    runtime: Runtime, triton: Triton, version: MaterialisedVersion, materialised: Iterable[MaterialisedVersion]
) -> None:
    """Lets a version make one token.

    Where the engine took its adapters at its load alone, as vLLM does, or for a lesser rank, it is loaded again: the old
    one serves meanwhile.

    Raises:
        TritonFault: it cannot.
    """
    seconds = runtime.settings.probe_seconds
    model, adapter = version.triton_target.model, version.triton_target.adapter
    try:
        await client.probe(triton, runtime.generations[model], adapter, seconds=seconds)
    except client.BadRequest as fault:
        if "not supported" not in str(fault) and "max_lora_rank" not in str(fault):
            raise
        here = [p for p in materialised if p.triton_target.model == model]
        await _load_new(runtime, triton, model, here, adapter)


async def _load(runtime: Runtime, triton: Triton, action: Load, here: list[MaterialisedVersion]) -> None:
    """Loads a model. One that Triton holds already, unchanged, or loads, is taken as it is: serving was restarted."""
    folder, model = repository(runtime.settings), action.model
    held = {} if action.afresh else await asyncio.to_thread(layout.generations, folder, model)
    wanted = layout.engine_arguments(_engine(runtime.settings, here))
    states = await client.states(triton)
    for generation in [g for g, arguments in held.items() if arguments == wanted and states.get(g, ("",))[0] in ALIVE]:
        try:
            await asyncio.to_thread(layout.write_adapters, folder, model, _adapters(here))
            await _take(runtime, triton, model, generation)
            runtime.loaded[model] = Loaded(action.adapters)
            return
        except client.TritonFault:
            await asyncio.to_thread(layout.remove_generation, folder, generation)
    if action.afresh:
        runtime.restarts[model] += 1
        old = runtime.generations.get(model, model)
        await asyncio.to_thread(layout.remove_generations, folder, model)
        await client.unloaded(triton, old, seconds=2.0)  # its memory, before the next takes as much
    await _load_new(runtime, triton, model, here)
    runtime.loaded[model] = Loaded(action.adapters)


async def _load_new(
    runtime: Runtime, triton: Triton, model: str, here: list[MaterialisedVersion], adapter: str | None = None
) -> None:
    """Loads another generation, which takes over once it answers a probe; what was there answers until then."""
    folder = repository(runtime.settings)
    new = await asyncio.to_thread(
        layout.add_generation, folder, model, _engine(runtime.settings, here), _adapters(here)
    )
    try:
        await _take(runtime, triton, model, new, adapter)
    except BaseException:
        await asyncio.to_thread(layout.remove_generation, folder, new)
        raise


async def _take(runtime: Runtime, triton: Triton, model: str, generation: str, adapter: str | None = None) -> None:
    """Waits until a generation answers a probe and lets it take over; its predecessors go."""
    folder = repository(runtime.settings)
    await client.loaded(triton, generation, folder / generation, seconds=runtime.settings.load_seconds)
    await client.probe(triton, generation, adapter, seconds=runtime.settings.probe_seconds)
    runtime.generations[model] = generation
    runtime.forget(model)
    await asyncio.to_thread(layout.remove_generations, folder, model, generation)


def _engine(settings: ServingSettings, here: list[MaterialisedVersion]) -> layout.EngineArgs:
    """What a model is loaded with; another one makes it load again."""
    return layout.EngineArgs(
        model=here[0].weights.resolve(),
        dtype=settings.dtype,
        max_loras=settings.max_loras,
        max_lora_rank=max([settings.max_lora_rank, *(read_rank(path) for path in _adapters(here).values())]),
        max_model_len=settings.max_model_length or None,
        max_num_seqs=settings.max_sequences,
    )


def _adapters(materialised: list[MaterialisedVersion]) -> dict[str, Path]:
    return {p.triton_target.adapter: p.adapter for p in materialised if p.triton_target.adapter and p.adapter}


def repository(settings: ServingSettings) -> Path:
    """Triton's model repository (services/serving/triton/launch.py)."""
    return settings.home / "models" / "repository"
