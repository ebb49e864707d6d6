"""How serving's own event restores its state: how promotions ended."""

from collections.abc import Iterable

from contracts.envelope import Event, Meta
from contracts.events.serving import DeploymentChangedV1
from services.chassis.errors import Park
from services.chassis.replay.restore import Restore
from services.serving.store import SqlStore


def on_deployment_changed(event: DeploymentChangedV1, meta: Meta, store: SqlStore) -> Iterable[Event]:
    """The version's newest promotion ended so."""
    sequence = store.sequence(event.model)
    if sequence is None:
        raise Park("unknown_model", f"{event.model.name}@{event.model.version} was not promoted yet")
    store.settle(event.model, sequence, event.status, event.detail, meta.time)
    return ()


RESTORE = Restore(events={DeploymentChangedV1: on_deployment_changed})
