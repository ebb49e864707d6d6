"""Wires prep."""

from pathlib import Path

from services.chassis.app import run
from services.chassis.jobs.job import JobKind
from services.chassis.service import Service, Timer
from services.prep import handlers
from services.prep.http import make_router
from services.prep.restore import RESTORE
from services.prep.settings import PrepSettings
from services.prep.store import SqlStore
from services.prep.tables import artifact_references

service = Service(
    settings=PrepSettings(),
    handlers=handlers.HANDLERS,
    store=SqlStore,
    migrations=Path(__file__).parent / "migrations",
    restore=RESTORE,
    artifact_references=artifact_references(),
    router=make_router,
    jobs=(
        JobKind(
            handlers.FREEZE,
            "services.prep.worker:run",
            on_done=handlers.on_freeze_done,
            on_failed=handlers.on_freeze_failed,
        ),
    ),
    timers=(Timer("freeze-due", every=1.0, run=handlers.freeze_due),),
)

if __name__ == "__main__":
    run(service)
