"""Wires the evaluator: run it with `python -m services.evaluator.app`."""

from pathlib import Path

from services.chassis.app import run
from services.chassis.jobs.job import JobKind
from services.chassis.service import Service
from services.evaluator.domain.failures import ADVICE
from services.evaluator.handlers import HANDLERS, KIND, on_evaluated, on_failed
from services.evaluator.http import make_router
from services.evaluator.restore import RESTORE
from services.evaluator.settings import EvaluatorSettings
from services.evaluator.store import SqlStore, artifact_references, horizons

settings = EvaluatorSettings()
service = Service(
    settings=settings,
    handlers=HANDLERS,
    store=SqlStore,
    migrations=Path(__file__).parent / "migrations",
    restore=RESTORE,
    artifact_references=artifact_references(),
    horizons=horizons(settings.predictions_retention),
    router=make_router,
    jobs=(JobKind(KIND, "services.evaluator.worker:run", on_done=on_evaluated, on_failed=on_failed, advice=ADVICE),),
)

if __name__ == "__main__":
    run(service)
