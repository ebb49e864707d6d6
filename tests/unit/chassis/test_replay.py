"""How messages are taken while a state is rebuilt, and which differences stand."""

from collections.abc import Callable
from typing import Any

from sqlalchemy import Engine
from sqlmodel import Session

from services.chassis.messaging import parking
from services.chassis.replay.difference import Difference
from services.chassis.replay.rebuild import LOOKS, apply, batch_context_of, settled
from services.chassis.storage.database import reading
from tests.integration.tiny.service import SqlStore, TinySettings, make_service
from tests.unit.chassis.records import ping


def test_a_message_that_its_handler_gave_up_holds_nothing_back(engine: Engine) -> None:
    apply(batch_context_of(make_service(TinySettings()), engine), [ping(1, "bug"), ping(2), ping(3, "dead"), ping(4)])
    with reading(engine) as connection, Session(connection) as session:
        assert [number for number, _ in SqlStore(session).notes()] == [2, 4]
        assert parking.count(connection) == 0


def one(name: str) -> list[Difference]:
    return [Difference("note", name, None, 1, None)]


def looked(compared: list[Any], taken: list[int]) -> tuple[list[Difference], bool, int]:
    """What stands, whether it moves, and how many looks that took."""
    looks = iter(compared)
    new = iter(taken)
    pauses: list[None] = []
    pause: Callable[[], None] = lambda: pauses.append(None)  # noqa: E731
    return *settled(lambda: next(new), lambda: next(looks), pause), len(pauses)


def test_a_difference_stands_that_is_seen_twice_with_nothing_new_between() -> None:
    assert looked([one("a"), one("a")], [0]) == (one("a"), False, 1)
    assert looked([[]], []) == ([], False, 0)


def test_what_the_service_did_while_it_was_compared_is_no_difference() -> None:
    assert looked([one("a"), []], [3]) == ([], False, 1)
    assert looked([one("a"), one("b"), one("c"), one("c")], [0, 2, 0]) == (one("c"), False, 3)


def test_a_service_that_never_rests_is_told_as_moving() -> None:
    assert looked([one(str(n)) for n in range(LOOKS + 1)], [1] * LOOKS) == (one(str(LOOKS)), True, LOOKS)
