"""Wires the registry: run it with `python -m services.registry.app`."""

from pathlib import Path

from services.chassis.app import run
from services.chassis.service import Service
from services.registry import collection_metrics
from services.registry.handlers import HANDLERS
from services.registry.http import make_router
from services.registry.metrics import keep_counting
from services.registry.restore import RESTORE
from services.registry.settings import RegistrySettings
from services.registry.store import SqlStore, artifact_references

service = Service(
    settings=RegistrySettings(),
    handlers=HANDLERS,
    store=SqlStore,
    migrations=Path(__file__).parent / "migrations",
    restore=RESTORE,
    artifact_references=artifact_references(),
    router=make_router,
    background=(collection_metrics.keep_showing, keep_counting),
)

if __name__ == "__main__":
    run(service)
