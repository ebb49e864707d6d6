"""Wires the trainer: run it with `python -m services.trainer.app`."""

from pathlib import Path

from services.chassis.app import run
from services.chassis.jobs.job import JobKind
from services.chassis.service import Service
from services.trainer.domain.failures import ADVICE
from services.trainer.handlers import HANDLERS, KIND, on_failed, on_progress, on_trained
from services.trainer.http import make_router
from services.trainer.restore import RESTORE
from services.trainer.settings import TrainerSettings
from services.trainer.store import SqlStore, artifact_references

service = Service(
    settings=TrainerSettings(),
    handlers=HANDLERS,
    store=SqlStore,
    migrations=Path(__file__).parent / "migrations",
    restore=RESTORE,
    artifact_references=artifact_references(),
    router=make_router,
    jobs=(
        JobKind(
            KIND,
            "services.trainer.worker:run",
            on_done=on_trained,
            on_failed=on_failed,
            on_progress=on_progress,
            resumes=True,
            advice=ADVICE,
        ),
    ),
)

if __name__ == "__main__":
    run(service)
