"""How messages are taken while a state is rebuilt."""

from sqlalchemy import Engine
from sqlmodel import Session

from services.chassis.messaging import parking
from services.chassis.replay.rebuild import apply, batch_context_of
from services.chassis.storage.database import reading
from tests.integration.tiny.service import SqlStore, TinySettings, make_service
from tests.unit.chassis.records import ping


def test_a_message_that_its_handler_gave_up_holds_nothing_back(engine: Engine) -> None:
    apply(batch_context_of(make_service(TinySettings()), engine), [ping(1, "bug"), ping(2), ping(3, "dead"), ping(4)])
    with reading(engine) as connection, Session(connection) as session:
        assert [number for number, _ in SqlStore(session).notes()] == [2, 4]
        assert parking.count(connection) == 0
