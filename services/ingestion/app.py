"""Wires ingestion."""

from pathlib import Path

from services.chassis.app import run
from services.chassis.http import idempotency
from services.chassis.service import Service, Timer
from services.ingestion import handlers
from services.ingestion.http import make_router
from services.ingestion.joining import keep_giving_up
from services.ingestion.letters import concealed
from services.ingestion.restore import RESTORE
from services.ingestion.settings import IngestionSettings
from services.ingestion.store import SqlStore

service = Service(
    settings=IngestionSettings(),
    handlers=handlers.HANDLERS,
    store=SqlStore,
    migrations=Path(__file__).parent / "migrations",
    restore=RESTORE,
    conceal=concealed,
    router=make_router,
    background=(keep_giving_up,),
    timers=(
        Timer("refuse-overdue", every=2.0, run=handlers.refuse_overdue),
        Timer("forget-idempotency-keys", every=60.0, run=idempotency.forget),
    ),
)

if __name__ == "__main__":
    run(service)
