"""How the registry's own events restore its state: projects that people defined, and versions that they moved."""

from collections.abc import Iterable
from dataclasses import replace

from contracts.envelope import Event, Meta
from contracts.events.registry import ModelPromotedV1, ModelRegisteredV1, ModelRejectedV1, ProjectDefinedV1
from contracts.project import ProjectSpec
from services.chassis.errors import Park
from services.chassis.replay.restore import Restore
from services.registry.domain.prompt import PromptVersion
from services.registry.domain.version import ModelVersion
from services.registry.judgement import GATE, rejudge_open
from services.registry.projects import take_out_of_service
from services.registry.prompt_candidates import REGISTRY, on_new_prompt
from services.registry.store import SqlStore
from services.registry.transitions import Action, promote, promote_base, reject


def on_project_defined(event: ProjectDefinedV1, meta: Meta, store: SqlStore) -> Iterable[Event]:
    """The revision is in force from the event's time on, or the project out of service."""
    store.lock(event.project)
    before = store.projects.current(event.project)
    _keep_prompt(store, event.project, event.prompt_version, (event.revision, event.spec), meta)
    store.projects.remember(event, meta.time)
    if event.retired_after is None:
        store.retire(event.project, None)
        if before is not None and before[1].prompt != event.spec.prompt:
            tuple(on_new_prompt(store, event.project, Action("apply", "the project was applied again", meta.time)))
    elif store.retired_after(event.project) is None:
        take_out_of_service(store, event.project, Action(event.by, event.reason, meta.time))
    return ()


def on_model_promoted(event: ModelPromotedV1, meta: Meta, store: SqlStore) -> Iterable[Event]:
    """What a person promoted or rolled back to; the gate's promotions come from the figures again.

    A gate of before decision 42 promoted what today's rejects: that it was in production stays true.
    """
    if event.cause == "gate" and not _rejected_by_today(store.version(event.model.name, event.model.version)):
        return ()
    name, number = event.model.name, event.model.version
    store.lock(name)
    store.retire(name, None)  # where a promotion ends a retirement, an event of its own says so too
    before, action = store.champion(name), Action(event.by, event.detail, meta.time)
    if number == 0:
        tuple(promote_base(store, name, action))
    else:
        tuple(promote(store, _version(store, name, number), event.cause, action))
    tuple(rejudge_open(store, name, before, action))
    return ()


def on_model_rejected(event: ModelRejectedV1, meta: Meta, store: SqlStore) -> Iterable[Event]:
    """What a person rejected; the gate's rejections come from the figures again, withdrawals from definitions and trainings."""
    version = _version(store, event.model.name, event.model.version)
    if event.by not in (GATE, REGISTRY) and version.stage == "candidate":
        tuple(reject(store, version, Action(event.by, event.detail, meta.time)))
    return ()


def on_model_registered(event: ModelRegisteredV1, meta: Meta, store: SqlStore) -> Iterable[Event]:
    """Which prompt a version has: the definition that told may be gone from its compacted topic."""
    name, revision = event.project, event.project_revision
    store.lock(name)
    version = store.version(event.model.name, event.model.version)
    spec = event.spec or store.projects.at(name, revision) or (version and version.trained.spec)
    if spec is not None:
        _keep_prompt(store, name, event.prompt_version, (revision, spec), meta)
    if version is not None and version.prompt_version is None:
        store.keep(replace(version, prompt_version=event.prompt_version))
    return ()


def _rejected_by_today(version: ModelVersion | None) -> bool:
    known = version and version.decision
    return bool(version and known and version.stage == "rejected" and known.verdict == "reject")


def _keep_prompt(
    store: SqlStore, project: str, number: int | None, defined: tuple[str, ProjectSpec], meta: Meta
) -> None:
    """The prompt under the number that it was given; an older registry gave none."""
    revision, spec = defined
    if number is not None and store.prompt(project, number) is None:
        store.keep_prompt(PromptVersion(project, number, spec.prompt, revision, meta.time))


def _version(store: SqlStore, name: str, number: int) -> ModelVersion:
    version = store.version(name, number)
    if version is None:
        raise Park("unknown_run", f"{name}@{number} is not registered yet")
    return version


RESTORE = Restore(
    events={
        ProjectDefinedV1: on_project_defined,
        ModelRegisteredV1: on_model_registered,
        ModelPromotedV1: on_model_promoted,
        ModelRejectedV1: on_model_rejected,
    },
    omitted={"transition.id": "a running number"},
    keys={"transition": ("name", "version", "at", "after")},
)
