"""What becomes of parts of calls: with the rest of a call they are its records, else they wait for it.

All of it is one transaction: a part is kept, or its call is sent on, and a request that comes again finds which.
"""

import asyncio
from collections import Counter
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from datetime import UTC, datetime, timedelta
from typing import Any

from contracts.events.upstream import RecordSubmittedV1
from contracts.records import RecordInvalid
from services.chassis.context import Context
from services.chassis.storage.database import log_failure
from services.ingestion.domain.policy import Policy, let_in
from services.ingestion.domain.traces import parts, records
from services.ingestion.domain.traces.parts import Part
from services.ingestion.outcomes import Outcome, count
from services.ingestion.parts_store import AT_ONCE, Kept, Parts
from services.ingestion.settings import IngestionSettings
from services.ingestion.store import SqlStore

LOOK_SECONDS = 5.0


@dataclass(frozen=True, slots=True)
class Brought:
    """A part that a request brought, as it may be kept."""

    project: str
    trace_id: str
    span_id: str
    part: Part

    @property
    def call(self) -> str:
        """What tells the call from others of its project."""
        return f"{self.trace_id}-{self.span_id}"


def join(
    store: SqlStore, brought: Sequence[Brought], known: Mapping[str, Policy], most_bytes: int, now: datetime
) -> tuple[Outcome, list[RecordSubmittedV1]]:
    """What became of the parts, and the records to send that were not sent before."""
    outcome, events, kept = Outcome(), list[RecordSubmittedV1](), Parts(store.session)
    for project in sorted({each.project for each in brought}):
        calls: dict[str, list[Brought]] = {}
        for each in brought:
            if each.project == project:
                calls.setdefault(each.call, []).append(each)
        before = kept.known(project, calls)
        for call, new in calls.items():
            found, fresh = _judge(new, before.get(call, []), known[project], outcome)
            events += found
            kept.keep(project, call, fresh, now)
        settled = [
            c for c, new in calls.items() if parts.is_whole([*_parts(before.get(c, [])), *(n.part for n in new)])
        ]
        kept.settle(project, settled)
        outcome.lost += kept.trim(project, most_bytes)
    outcome.joined = len(events)
    return outcome, events


def _judge(
    new: Sequence[Brought], before: Sequence[Kept], policy: Policy, outcome: Outcome
) -> tuple[list[RecordSubmittedV1], list[Part]]:
    """(records that the new parts make, parts that are to be kept) of one call."""
    had, one = {kept.identity for kept in before}, new[0]
    fresh = {identity: each.part for each in new if (identity := parts.identity(each.part)) not in had}
    outcome.repeated += sum(each.part.items for each in new) - sum(part.items for part in fresh.values())
    old, added = _parts(before), list(fresh.values())
    if not fresh:
        return [], []
    if not parts.is_whole([*old, *added]):
        outcome.waiting += sum(part.items for part in added)
        return [], added
    if sum(kept.size for kept in before) > parts.CALL_BYTES:
        added = []  # it was refused for that
    try:
        records_now = _records(one, [*old, *fresh.values()], policy)
    except RecordInvalid as error:
        outcome.refuse(one.trace_id, one.span_id, sum(part.items for part in fresh.values()), error)
        return [], added
    sent = _sent(one, old, policy)
    return [event for event in records_now if event not in sent], added


def _records(one: Brought, found: Sequence[Part], policy: Policy) -> list[RecordSubmittedV1]:
    call = parts.joined(one.trace_id, one.span_id, found)
    return [let_in(event, policy) for event in records.submissions(call, one.project)]


def _sent(one: Brought, found: Sequence[Part], policy: Policy) -> list[RecordSubmittedV1]:
    """What was sent of the call when these were all of its parts."""
    try:
        return _records(one, found, policy) if parts.is_whole(found) else []
    except RecordInvalid:
        return []


def _parts(kept: Sequence[Kept]) -> list[Part]:
    return [each.part for each in kept]


async def keep_giving_up(ctx: Context[Any]) -> None:
    """Gives up parts whose rest did not come in time, until cancelled."""
    settings = ctx.settings
    assert isinstance(settings, IngestionSettings)  # noqa: S101 - app.py wires it so
    while True:
        try:
            while (await give_up(ctx, datetime.now(UTC) - timedelta(seconds=settings.otlp_waiting_seconds))) == AT_ONCE:
                pass
        except Exception as error:  # a database that is away must not end the service
            log_failure(ctx.log, "parts of calls not given up", error)
        await asyncio.sleep(min(LOOK_SECONDS, settings.otlp_waiting_seconds))


async def give_up(ctx: Context[SqlStore], before: datetime) -> int:
    """Gives up parts that came before then, some at a time; how many they were."""

    def done(store: SqlStore) -> tuple[tuple[int, Counter[str]], tuple[()]]:
        return Parts(store.session).give_up(before), ()

    number, lost = await ctx.transact(done)
    if lost:
        count(ctx, lost)
        ctx.log.info("parts of calls given up: the rest did not come", **lost)
    return number
