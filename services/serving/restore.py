"""How serving's own event restores its state: how promotions ended."""

from collections.abc import Iterable

from contracts.envelope import Event, Meta
from contracts.events.serving import DeploymentChangedV1
from services.chassis.errors import Park
from services.chassis.replay.restore import Restore
from services.serving.store import SqlStore


def on_deployment_changed(event: DeploymentChangedV1, meta: Meta, store: SqlStore) -> Iterable[Event]:
    """The version's newest promotion ended so."""
    newest = store.newest_promotion(event.model)
    if newest is None:
        raise Park("unknown_model", f"{event.model.name}@{event.model.version} was not promoted yet")
    sequence, promotion = newest
    if event.promotion in (None, promotion):
        store.set_status(event.model, sequence, event.status, event.detail, meta.time)
    return ()


RESTORE = Restore(
    events={DeploymentChangedV1: on_deployment_changed},
    omitted={"change_counter": "tells the deployer alone that something came"},
)
