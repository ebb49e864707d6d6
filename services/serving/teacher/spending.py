"""Keeps what each project spent on its teacher today known, from the records in the database. Refuses nobody."""

import asyncio
from datetime import UTC, datetime

from services.chassis.context import Context
from services.serving.domain.spending import day_of
from services.serving.runtime import Runtime
from services.serving.store import Store

EVERY = 1.0
"""Seconds; what other gateways spent within them is not known here yet."""


async def keep(runtime: Runtime, ctx: Context[Store]) -> None:
    """Runs until it is cancelled."""
    try:
        while True:
            for project, target in runtime.routes.teachers.items():
                if target.teacher is not None and target.teacher.budget is not None:
                    await _learn(runtime, ctx, project)
            await asyncio.sleep(EVERY)
    finally:
        if runtime.teachers.http is not None:
            await runtime.teachers.http.aclose()


async def _learn(runtime: Runtime, ctx: Context[Store], project: str) -> None:
    spending, today = runtime.teachers.spending, day_of(datetime.now(UTC))
    waiting = spending.waiting(project)
    try:
        spent, seen = await ctx.read(lambda store: store.spent(project, today, waiting))
    except Exception:  # whatever the database met: what was known stands, and the next round asks again
        ctx.log.exception("teacher.spending_unknown", project=project)
        return
    spending.learn(project, today, spent, seen)
