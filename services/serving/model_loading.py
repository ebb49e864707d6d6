"""Makes Triton hold what a plan says, and looks whether it still does. Decides nothing about versions."""

import asyncio
import contextlib
from collections.abc import Iterable, Mapping
from pathlib import Path

from services.lm.base_files import read_rank
from services.serving.domain.reconcile import Action, List, Load, Loaded
from services.serving.model_files import Placed
from services.serving.runtime import Runtime
from services.serving.settings import ServingSettings
from services.serving.triton import client, layout
from services.serving.triton.client import Triton


async def look(runtime: Runtime, triton: Triton) -> None:
    """Notes whether Triton lives, which models it lost, and which suspects fail a probe."""
    was_up = runtime.up
    runtime.up = await client.live(triton)
    if runtime.up and not was_up:
        runtime.suspects.update(runtime.loaded)
    try:
        for model in list(runtime.loaded) if runtime.up else ():
            if not await client.ready(triton, model):
                del runtime.loaded[model]
                runtime.restarts[model] += 1
        await _probe_suspects(runtime, triton)
    except client.Unavailable:
        runtime.up = await client.live(triton)
    if runtime.figures:
        runtime.figures.triton_up.set(runtime.up)


async def _probe_suspects(runtime: Runtime, triton: Triton) -> None:
    """Triton calls a model ready whose process was killed: only a request tells. Where one died the others are asked too."""
    suspects, runtime.suspects = runtime.suspects & runtime.loaded.keys(), set()
    for model in sorted(suspects) if runtime.up else ():
        adapters = runtime.loaded[model].adapters
        try:
            await client.probe(triton, model, seconds=runtime.settings.probe_seconds)
            listed = await asyncio.to_thread(layout.read_adapters, repository(runtime.settings), model)
            runtime.loaded[model] = Loaded(adapters & listed.keys())
        except client.TritonFault:
            runtime.up = await client.live(triton)
            runtime.loaded[model] = Loaded(adapters, healthy=False)
            runtime.suspects.update(m for m, held in runtime.loaded.items() if held.healthy and m not in suspects)


async def carry_out(runtime: Runtime, triton: Triton, action: Action, placed: Iterable[Placed]) -> None:
    """Does one action; what Triton then holds stands in `runtime.loaded`.

    Raises:
        TritonFault: it cannot.
    """
    here = [p for p in placed if p.place.model == action.model]
    if isinstance(action, Load):
        await _load(runtime, triton, action, here)
    elif isinstance(action, List):
        await asyncio.to_thread(layout.write_adapters, repository(runtime.settings), action.model, _adapters(here))
        runtime.loaded[action.model] = Loaded(action.adapters)
    else:
        with contextlib.suppress(TimeoutError):
            await client.unload(triton, action.model)
        await asyncio.to_thread(layout.remove_model, repository(runtime.settings), action.model)
        runtime.loaded.pop(action.model, None)
    runtime.faults.pop(action.model, None)


async def try_version(runtime: Runtime, triton: Triton, version: Placed, placed: Iterable[Placed]) -> None:
    """Lets a version make one token.

    Where the engine took its adapters at its load alone, as vLLM does, or for a lesser rank, it is loaded again: the old
    one serves meanwhile.

    Raises:
        TritonFault: it cannot.
    """
    seconds = runtime.settings.probe_seconds
    try:
        await client.probe(triton, version.place.model, version.place.adapter, seconds=seconds)
    except client.BadRequest as fault:
        if "not supported" not in str(fault) and "max_lora_rank" not in str(fault):
            raise
        here = [p for p in placed if p.place.model == version.place.model]
        await asyncio.to_thread(_write, runtime.settings, version.place.model, version.weights, _adapters(here))
        await client.load(triton, version.place.model, seconds=runtime.settings.load_seconds)
        await client.probe(triton, version.place.model, version.place.adapter, seconds=seconds)


async def _load(runtime: Runtime, triton: Triton, action: Load, here: list[Placed]) -> None:
    """Writes and loads a model. One that Triton holds already, unchanged, is taken as it is: serving was restarted."""
    changed = await asyncio.to_thread(_write, runtime.settings, action.model, here[0].weights, _adapters(here))
    afresh = action.afresh
    if not (changed or afresh) and await client.ready(triton, action.model):
        try:
            await client.probe(triton, action.model, seconds=runtime.settings.probe_seconds)
            runtime.loaded[action.model] = Loaded(action.adapters)
            return
        except client.TritonFault:
            afresh = True
    if afresh:
        runtime.restarts[action.model] += 1
        with contextlib.suppress(client.TritonFault, TimeoutError):
            await client.unload(triton, action.model, gone=1.0)  # one whose process died never goes
    await client.load(triton, action.model, seconds=runtime.settings.load_seconds)
    runtime.loaded[action.model] = Loaded(action.adapters, healthy=False)
    await client.probe(triton, action.model, seconds=runtime.settings.probe_seconds)
    runtime.loaded[action.model] = Loaded(action.adapters)


def _write(settings: ServingSettings, model: str, weights: Path, adapters: Mapping[str, Path]) -> bool:
    """Writes a model's folder; whether Triton must load it to see the change."""
    arguments = layout.model_folder(repository(settings), model) / "1" / "model.json"
    before = arguments.read_text("utf-8") if arguments.exists() else None
    engine = layout.EngineArgs(
        model=weights.resolve(),
        max_loras=settings.max_loras,
        max_lora_rank=max([settings.max_lora_rank, *(read_rank(path) for path in adapters.values())]),
        max_model_len=settings.max_model_length or None,
        max_num_seqs=settings.max_sequences,
    )
    layout.write_model(repository(settings), model, engine)
    layout.write_adapters(repository(settings), model, adapters)
    return arguments.read_text("utf-8") != before


def _adapters(placed: list[Placed]) -> dict[str, Path]:
    return {p.place.adapter: p.adapter for p in placed if p.place.adapter and p.adapter}


def repository(settings: ServingSettings) -> Path:
    """Triton's model repository (services/serving/triton/launch.py)."""
    return settings.home / "models" / "repository"
