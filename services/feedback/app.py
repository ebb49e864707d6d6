"""Wires feedback together; holds no logic."""

from functools import partial
from pathlib import Path

from services.chassis.app import run
from services.chassis.http import idempotency
from services.chassis.service import Service, Timer
from services.feedback import handlers
from services.feedback.http import make_router
from services.feedback.learning import settle_due
from services.feedback.restore import RESTORE
from services.feedback.settings import FeedbackSettings
from services.feedback.store import SqlStore, horizons

settings = FeedbackSettings()
service = Service(
    settings=settings,
    handlers=handlers.HANDLERS,
    store=SqlStore,
    migrations=Path(__file__).parent / "migrations",
    restore=RESTORE,
    router=make_router,
    timers=(
        Timer("settle-waiting", every=5.0, run=partial(handlers.settle_waiting, settings.deadline)),
        Timer("settle-examples", every=5.0, run=settle_due),
        Timer("forget-idempotency-keys", every=60.0, run=idempotency.forget),
    ),
    horizons=horizons(settings.retention, settings.signal_retention),
)

if __name__ == "__main__":
    run(service)
