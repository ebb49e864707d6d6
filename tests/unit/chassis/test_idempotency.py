"""An Idempotency-Key stands for one request with its body, on every database and for every instance."""

import asyncio
from concurrent.futures import ThreadPoolExecutor
from datetime import UTC, datetime, timedelta
from pathlib import Path

import pytest
from sqlalchemy import Engine
from sqlmodel import Session, func, select

from services.chassis.context import Context
from services.chassis.http import idempotency
from services.chassis.http.application import ApiError
from services.chassis.http.idempotency import KEPT, KeyedRequest, recall, remember
from services.chassis.observability.metrics import Metrics
from services.chassis.settings import Settings
from services.chassis.storage.artifacts import open_store
from services.chassis.storage.database import writing
from services.chassis.storage.store import ChassisStore
from services.chassis.storage.tables import IdempotencyKey
from tests.conftest import wait_until_locked

NOW = datetime(2026, 1, 31, 12, tzinfo=UTC)


def request(body: str = "b", key: str = "k", scope: str = "s") -> KeyedRequest:
    return KeyedRequest(scope, key, body)


def test_key_is_bound_to_its_body_in_its_scope(engine: Engine) -> None:
    with writing(engine) as connection, Session(connection) as session:
        assert recall(session, request(), NOW) is None
        remember(session, request(), "done", NOW)
        assert recall(session, request(), NOW + KEPT) == "done"
        assert recall(session, request("other", scope="t"), NOW) is None
        assert recall(session, request("other", key="l"), NOW) is None
        with pytest.raises(
            ApiError, match="'k' came with another body before; send this body with a new key"
        ) as raised:
            recall(session, request("other"), NOW + KEPT)
        assert (raised.value.status, raised.value.code) == (422, "idempotency_key_reused")


def test_key_is_free_again_when_its_time_is_over(engine: Engine) -> None:
    late = NOW + KEPT + timedelta(seconds=1)
    with writing(engine) as connection, Session(connection) as session:
        remember(session, request(), "done", NOW)
        assert recall(session, request("other"), late) is None
        remember(session, request("other"), "done again", late)
        assert recall(session, request("other"), late) == "done again"


def test_what_is_old_is_forgotten_a_bounded_number_at_once(engine: Engine, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(idempotency, "FORGOTTEN_AT_ONCE", 3)
    with writing(engine) as connection, Session(connection) as session:
        for number in range(5):
            remember(session, request(key=str(number)), "done", NOW - KEPT - timedelta(seconds=1))
        remember(session, request(key="new"), "done", NOW)
        left: list[int] = []
        for _ in range(3):
            list(idempotency.forget(ChassisStore(session), NOW))
            left.append(session.exec(select(func.count()).select_from(IdempotencyKey)).one())
    assert left == [3, 1, 1]


def test_two_instances_with_one_key_at_the_same_moment_agree(engine: Engine, tmp_path: Path) -> None:
    settings = Settings(home=tmp_path)
    context = Context(settings, engine, ChassisStore, open_store(settings), Metrics("tiny"))

    def second(body: str) -> str:
        def bind(store: ChassisStore) -> tuple[str, tuple[()]]:
            known = recall(store.session, request(body), NOW)
            if known is None:
                remember(store.session, request(body), "second", NOW)
            return known or "second", ()

        return asyncio.run(context.transact(bind))

    with ThreadPoolExecutor() as pool:
        with writing(engine) as connection, Session(connection) as session:
            remember(session, request("first"), "first", NOW)
            same, other = (pool.submit(second, body) for body in ("first", "other"))
            wait_until_locked(engine)
        assert same.result(20) == "first"
        with pytest.raises(ApiError, match="another body"):
            other.result(20)
