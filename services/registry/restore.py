"""How the registry's own events restore its state: projects that people defined, and versions that they moved."""

from collections.abc import Iterable

from contracts.envelope import Event, Meta
from contracts.events.registry import ModelPromotedV1, ProjectDefinedV1
from services.chassis.errors import Park
from services.chassis.replay.restore import Restore
from services.registry.store import SqlStore
from services.registry.transitions import Deed, promote


def on_project_defined(event: ProjectDefinedV1, meta: Meta, store: SqlStore) -> Iterable[Event]:
    """The revision is in force from the event's time on."""
    store.lock(event.project)
    store.projects.remember(event, meta.time)
    return ()


def on_model_promoted(event: ModelPromotedV1, meta: Meta, store: SqlStore) -> Iterable[Event]:
    """What a person promoted or rolled back to; the gate's promotions come from the figures again."""
    if event.cause == "gate":
        return ()
    version = store.version(event.model.name, event.model.version)
    if version is None:
        raise Park("unknown_run", f"{event.model.name}@{event.model.version} is not registered yet")
    tuple(promote(store, version, event.cause, Deed(event.by, event.detail, meta.time)))
    return ()


RESTORE = Restore(
    events={ProjectDefinedV1: on_project_defined, ModelPromotedV1: on_model_promoted},
    omitted={"transition.id": "a running number"},
    keys={"transition": ("name", "version", "at", "after")},
)
