"""Makes Triton hold the embedder once somebody asked for it, and looks whether it lives. Knows no deployment and no request.

It stands beside the deployer: what befalls the embedder changes nothing for the models that generate, nor for readiness.
"""

import asyncio
import json
import os
from typing import Any

from services.chassis.context import Context
from services.chassis.timeouts import wait_at_most
from services.serving.domain.routing import EMBEDDER
from services.serving.embedder import directory, has_embedder
from services.serving.model_loading import repository
from services.serving.runtime import Runtime
from services.serving.settings import ServingSettings
from services.serving.triton import client, layout
from services.serving.triton.client import Triton
from services.serving.triton.embedding import embed

PART_SECONDS = 30.0
"""Within which Triton must have computed one part of a request: 512 tokens, and as many before them."""
RETRY_SECONDS = 30.0
"""After a load that failed."""
_PROBE = [[101, 102]]
"""[CLS] and [SEP]."""


async def keep(runtime: Runtime, ctx: Context[Any]) -> None:
    """Looks every `check_seconds`, and when woken, until cancelled."""
    embedder = runtime.embedder
    embedder.wanted = bool(await asyncio.to_thread(layout.generations, repository(runtime.settings), EMBEDDER))
    while True:
        try:
            await _look(runtime)
        except Exception as fault:  # the loop is what repairs: whatever one look met, the next one tries again
            embedder.failed(str(fault)[:500])
            ctx.log.error("embedder.not_loaded", detail=str(fault)[:2000])
            pause = 1.0 if isinstance(fault, client.Unavailable | client.ModelNotReady) else RETRY_SECONDS
            await asyncio.sleep(pause)
            continue
        await wait_at_most(embedder.wake, runtime.settings.check_seconds)
        embedder.wake.clear()


async def _look(runtime: Runtime) -> None:
    embedder, triton = runtime.embedder, runtime.triton
    if not embedder.wanted:
        return
    if not has_embedder(runtime.settings):
        await asyncio.to_thread(layout.remove_generations, repository(runtime.settings), EMBEDDER)
        embedder.wanted = False
        return
    if triton is None or not runtime.up:
        embedder.failed("Triton does not answer")
        return
    if embedder.generation is not None and await _lives(runtime, triton, embedder.generation):
        return
    embedder.loading()
    embedder.took(await _taken_up(runtime, triton) or await _loaded(runtime, triton))


async def _lives(runtime: Runtime, triton: Triton, generation: str) -> bool:
    """Whether it answers. Where requests are at work and none failed, they say so: each of their parts has a deadline."""
    embedder = runtime.embedder
    if embedder.at_work and not embedder.suspected:
        return True
    embedder.suspected = False
    try:
        await embed(triton, generation, _PROBE, PART_SECONDS if embedder.at_work else runtime.settings.status_seconds)
    except client.TritonFault:
        embedder.suspected = True
        return False
    return True


async def _taken_up(runtime: Runtime, triton: Triton) -> str | None:
    """One that Triton holds already, unchanged, since serving was restarted; what else there is of it goes."""
    folder = repository(runtime.settings)
    held = await asyncio.to_thread(layout.generations, folder, EMBEDDER)
    found = None
    for generation, arguments in held.items():
        if found is None and arguments == _arguments(runtime.settings) and not runtime.embedder.suspected:
            try:
                await embed(triton, generation, _PROBE, runtime.settings.status_seconds)
                found = generation
                continue
            except client.TritonFault:
                pass
        await asyncio.to_thread(layout.remove_generation, folder, generation)
    return found


async def _loaded(runtime: Runtime, triton: Triton) -> str:
    """A new one. Raises TritonFault."""
    folder = repository(runtime.settings)
    new = await asyncio.to_thread(layout.add_embedder, folder, EMBEDDER, _arguments(runtime.settings))
    try:
        await client.loaded(triton, new, folder / new, seconds=runtime.settings.load_seconds)
        await embed(triton, new, _PROBE, runtime.settings.probe_seconds)
    except BaseException:
        await asyncio.to_thread(layout.remove_generation, folder, new)
        raise
    return new


def _arguments(settings: ServingSettings) -> str:
    """model.json."""
    threads = int(os.environ.get("NORIA_TRITON_THREADS") or max(1, (os.cpu_count() or 1) // 2))
    model = directory(settings).resolve() / "model.onnx"
    return json.dumps({"model": str(model), "threads": threads}, indent=1, sort_keys=True) + "\n"
