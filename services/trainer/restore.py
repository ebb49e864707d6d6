"""How the trainer's own events restore its state: how runs ended."""

from collections.abc import Iterable

from contracts.envelope import Event, Meta
from contracts.events.trainer import ModelTrainedV1, RunFailedV1
from services.chassis.errors import Park
from services.chassis.replay.restore import Restore
from services.trainer.domain.run_state import Run
from services.trainer.store import SqlStore

AS_IF_NEVER_ENDED = {"cause": None, "detail": None, "successor": None}
"""No message says when a run began: the rebuilding takes each for waiting, and a newer dataset for its end."""


def on_model_trained(event: ModelTrainedV1, meta: Meta, store: SqlStore) -> Iterable[Event]:
    """The run is done."""
    told = {name: getattr(event, name) for name in ("figures", "left_out", "references")}
    ended = {**AS_IF_NEVER_ENDED, "status": "done", **told}
    store.keep(_run(event.run_id, store).model_copy(update=ended))
    return ()


def on_run_failed(event: RunFailedV1, meta: Meta, store: SqlStore) -> Iterable[Event]:
    """The run ended without a model."""
    status = event.cause if event.cause in ("cancelled", "superseded") else "failed"
    ended = {"status": status, "cause": event.cause, "detail": event.detail, "successor": event.successor}
    store.keep(_run(event.run_id, store).model_copy(update=ended))
    return ()


def _run(run_id: str, store: SqlStore) -> Run:
    run = store.run(run_id)
    if run is None:
        raise Park("unknown_run", f"run {run_id!r} is not known yet")
    return run


RESTORE = Restore(
    events={ModelTrainedV1: on_model_trained, RunFailedV1: on_run_failed},
    omitted={"run.document.started_at": "the job's own time; it is in progress events, which are kept for 7 days"},
)
