"""Two members that read the same log at the same moment, as after a rebalance, while parked messages are tried again.

What the state machine cannot have: transactions that truly overlap. On PostgreSQL they do; on SQLite they queue.
"""

import random
import threading
from collections import Counter
from collections.abc import Callable, Iterable
from concurrent.futures import ThreadPoolExecutor
from dataclasses import replace
from datetime import UTC, datetime, timedelta
from typing import Any

from sqlalchemy import text

from contracts.envelope import Event, Meta
from services.chassis.errors import Park
from services.chassis.messaging import parking, retry
from services.chassis.messaging.batch import BatchContext, take
from services.chassis.messaging.messages import routes
from services.chassis.storage.database import is_database_fault, reading, writing
from tests.integration.tiny.events import Ping, Pong
from tests.integration.tiny.service import SqlStore
from tests.unit.chassis.records import ping

TOTAL = 240
KEYS = "abc"


def insist(deed: Callable[[], Any]) -> Any:
    """As the consumer and the retries do: what the database refuses (a deadlock) is done again."""
    while True:
        try:
            return deed()
        except Exception as error:
            if not is_database_fault(error):
                raise


def test_overlapping_members_and_retries_keep_effects_single_and_ordered(context: BatchContext) -> None:
    mended = threading.Event()

    def on_ping(event: Ping, meta: Meta, store: SqlStore) -> Iterable[Event]:
        store.note(event.number, "")
        if event.number % 10 == 3 and not mended.is_set():
            raise Park("not_yet", "not yet")
        return [Pong(project=event.project, number=event.number)]

    context = replace(context, routes=routes({Ping: on_ping}))
    log = [ping(n, key=KEYS[n % 3]) for n in range(TOTAL)]

    def member(seed: int) -> None:
        chance, place = random.Random(seed), 0
        while place < TOTAL:
            count = chance.randint(1, 9)
            insist(lambda place=place, count=count: take(context, log[place : place + count]))
            place += count
            if seed == 1 and place > TOTAL / 2:
                mended.set()

    def retries() -> None:
        while not members_done.is_set() or waiting(context):
            insist(lambda: retry_now(context))
            insist(lambda: retry.try_due(context))

    members_done = threading.Event()
    with ThreadPoolExecutor(4) as pool:
        trying = [pool.submit(retries) for _ in range(2)]
        for done in [pool.submit(member, seed) for seed in (1, 2)]:
            done.result(60)
        members_done.set()
        for done in trying:
            done.result(60)
    check(context)


def check(context: BatchContext) -> None:
    with reading(context.engine) as connection:
        numbers = [n for (n,) in connection.execute(text("SELECT number FROM note ORDER BY place"))]
        events = connection.execute(text("SELECT count(*) FROM outbox")).scalar_one()
    assert Counter(numbers) == Counter(range(TOTAL))
    assert events == TOTAL
    for key in range(3):
        mine = [n for n in numbers if n % 3 == key]
        assert mine == sorted(mine)


def waiting(context: BatchContext) -> int:
    with reading(context.engine) as connection:
        return parking.count(connection)


def retry_now(context: BatchContext) -> None:
    with writing(context.engine) as connection:
        parking.retry_now(connection, context.group, None, datetime.now(UTC) - timedelta(seconds=1))
