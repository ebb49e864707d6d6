"""Tries parked messages again when their time has come, lane by lane in order. Sleeps until then; polls nothing."""

import asyncio
from collections.abc import Callable
from datetime import UTC, datetime
from typing import Any

import structlog
from sqlmodel import Session

from services.chassis.errors import Dead, Park
from services.chassis.messaging import outbox, parking
from services.chassis.messaging.batch import HANDLER_FAILED, BatchContext, BatchResult, attempt, give_up, record
from services.chassis.messaging.messages import read
from services.chassis.storage.database import log_failure, reading, writing

LOG: Any = structlog.get_logger("retry")
HEADS = 100
FOLLOWERS = 200
NOT_HANDLED = "topic_not_handled"


async def keep_retrying(
    context: BatchContext, changed: asyncio.Event, on_commit: Callable[[bool], None], longest: float = 30.0
) -> None:
    """Until cancelled: waits for the next due try, or for `changed`, and works. Calls `on_commit(jobs)` after."""
    while True:
        changed.clear()  # before the look: what is parked during it must wake the next
        try:
            wait = await asyncio.to_thread(_work, context)
            on_commit(True)
        except Exception as error:
            log_failure(LOG, "parked messages could not be tried again; in 5 s once more", error)
            wait = 5.0
        try:
            async with asyncio.timeout(longest if wait is None else min(wait, longest)):
                await changed.wait()
        except TimeoutError:
            continue


def _work(context: BatchContext) -> float | None:
    """Tries what is due; the seconds until the next try, None where nothing is parked."""
    while True:
        now = datetime.now(UTC)
        with reading(context.engine) as connection:
            moment = parking.earliest(connection, context.group, now, context.longest_pause)
        if moment is None:
            return None
        wait = (moment - now).total_seconds()
        if wait > 0:
            return wait
        if not try_due(context):
            return parking.FIRST_SECONDS


def try_due(context: BatchContext) -> int:
    """Tries every due message and what waits behind it, in one transaction; how many were tried."""
    result = BatchResult(datetime.now(UTC))
    tried = 0
    with writing(context.engine) as connection, Session(connection, expire_on_commit=False) as session:
        for head in parking.due(connection, context.group, result.now, HEADS, context.longest_pause):
            lane = [head, *parking.followers(connection, context.group, head, FOLLOWERS)]
            for waiting in lane:
                tried += 1
                if not _try(context, waiting, result, session):
                    break
        session.flush()
        outbox.put(connection, result.rows, result.now)
    record(result, context.metrics)
    return tried


def _try(context: BatchContext, waiting: parking.Waiting, result: BatchResult, session: Session) -> bool:
    """Whether the message is settled for good."""
    connection = session.connection()
    route = context.routes.get(waiting.topic)
    if route is None:  # parked by a version of the service that handled it, or by one that will
        why = f"this version of the service does not handle {waiting.topic}"
        retry_at = result.now + parking.pause(waiting.attempts, context.longest_pause)
        parking.postpone(connection, waiting.number, NOT_HANDLED, why, waiting.attempts + 1, retry_at)
        return False
    item = read(waiting, route.event)
    try:
        if item.malformed is not None:
            raise Dead(item.malformed.reason, str(item.malformed))
        attempt(context, item, result, session)
    except Dead as error:
        give_up(context, item, result, connection, error.reason, str(error))
    except Park as error:
        attempts = _attempts(waiting, error.reason)
        late = result.now >= parking.deadline(waiting.parked_at, context.park_days)
        if not late and (error.reason != HANDLER_FAILED or attempts < context.attempts):
            retry_at = result.now + parking.pause(attempts, context.longest_pause)
            parking.postpone(connection, waiting.number, error.reason, str(error), attempts, retry_at)
            return False
        told = f"parked for {context.park_days:g} days" if late else f"given up after {attempts} tries"
        give_up(context, item, result, connection, error.reason, f"{told}: {error}")
    parking.remove(connection, [waiting.number])
    return True


def _attempts(waiting: parking.Waiting, reason: str) -> int:
    """The tries so far. Only unexpected faults in a row bring a message to its end, not the waits before them."""
    return 1 if reason == HANDLER_FAILED and waiting.reason != HANDLER_FAILED else waiting.attempts + 1
