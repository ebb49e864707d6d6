"""Notes pings and answers with pongs; fails, waits and works on demand."""

import os
import time
from collections.abc import Iterable
from pathlib import Path
from typing import Any, ClassVar

from fastapi import APIRouter
from sqlalchemy import MetaData
from sqlmodel import Field, SQLModel, col, select

from contracts.envelope import Event, Meta
from services.chassis.app import run
from services.chassis.context import Context
from services.chassis.errors import Dead, Park
from services.chassis.jobs.job import Job, JobKind
from services.chassis.jobs.queue import Failure
from services.chassis.service import Service
from services.chassis.settings import Settings
from services.chassis.storage.store import ChassisStore
from tests.integration.tiny.events import NAME, Ping, Pong


class TinySettings(Settings):
    SERVICE: ClassVar[str] = NAME


class Base(SQLModel):
    metadata = MetaData()


class Note(Base, table=True):
    __tablename__ = "note"  # pyright: ignore[reportAssignmentType]

    place: int | None = Field(default=None, primary_key=True)
    number: int
    text: str


class SqlStore(ChassisStore):
    def note(self, number: int, text: str) -> None:
        self.session.add(Note(number=number, text=text))

    def notes(self) -> list[tuple[int, str]]:
        return [(n.number, n.text) for n in self.session.exec(select(Note).order_by(col(Note.place)))]


def on_ping(event: Ping, meta: Meta, store: SqlStore) -> Iterable[Event]:
    store.note(event.number, event.text[:100])
    misbehave(event.do, event.text)
    match event.do:
        case "slow":
            time.sleep(0.001)
            return []
        case "work":
            store.jobs.enqueue("work", f"job/{event.number}", {"number": event.number, "how": event.text})
            return []
        case "cancel":
            store.jobs.cancel(f"job/{event.number}")
            return []
        case "boast":
            return [Pong(project=event.project, number=event.number, text="x" * int(event.text or 3_000_000))]
        case _:
            return [Pong(project=event.project, number=event.number, text=event.text)]


def misbehave(how: str, text: str) -> None:
    match how:
        case "dead":
            raise Dead("not_wanted", "this one is never wanted")
        case "wait" if not Path(text).exists():
            raise Park("not_yet", f"{text} does not exist yet")
        case "fragile" if not Path(text).exists():
            raise ValueError(f"a fault of the handler that {text} mends")
        case "bug":
            raise ValueError("a fault of the handler")
        case "leak":
            raise ValueError(f"no access with {os.environ[text]}")
        case "confess":
            raise Dead("confession", f"no access with {os.environ[text]}")
        case _:
            pass


def on_done(store: SqlStore, job: Job, result: dict[str, Any]) -> Iterable[Event]:
    return [Pong(project="p", number=job.spec["number"], text=f"done from {result['first']} to {result['last']}")]


def on_failed(store: SqlStore, job: Job, failure: Failure) -> Iterable[Event]:
    told = f" {failure.detail}" if failure.code == "internal" else ""
    return [Pong(project="p", number=job.spec["number"], text=f"failed {failure.code}{told}")]


def make_router(context: Context[SqlStore]) -> APIRouter:
    router = APIRouter()

    @router.get("/notes")
    async def notes() -> list[tuple[int, str]]:
        return await context.read(lambda store: store.notes())

    return router


def make_service(settings: TinySettings) -> Service:
    return Service(
        settings=settings,
        handlers={Ping: on_ping},
        store=SqlStore,
        migrations=Path(__file__).parent / "migrations",
        router=make_router,
        jobs=(JobKind("work", "tests.integration.tiny.counting:work", on_done, on_failed),),
    )


if __name__ == "__main__":
    run(make_service(TinySettings()))
