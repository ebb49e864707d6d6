"""What serving does on each event: it writes down what should be served, and what was. The deployer sees to the first."""

from collections.abc import Iterable
from typing import Any

from contracts.envelope import Event, Meta
from contracts.events.registry import ModelPromotedV1, ProjectDefinedV1
from contracts.events.serving import InferenceCompletedV1
from services.serving.domain.served_version import deployment_changed
from services.serving.store import Store

RETIRED = "the project was taken out of service"


def on_model_promoted(event: ModelPromotedV1, meta: Meta, store: Store) -> Iterable[Event]:
    """The version is wanted in production; what answers now goes on until the new one has answered a probe."""
    if event.spec is not None:
        store.projects.learn(event.project, event.project_revision, event.spec)
        store.keep_prompt(event.project, event.prompt_version, event.spec.prompt)
    store.promote(event, meta.time)
    return ()


def on_project_defined(event: ProjectDefinedV1, meta: Meta, store: Store) -> Iterable[Event]:
    """Remembers what the project wants; one that was taken out of service is served no more."""
    store.projects.remember(event, meta.time)
    store.keep_prompt(event.project, event.prompt_version, event.spec.prompt)
    store.count_change()
    if event.retired_after is None:
        return ()
    ended = store.retire(event.project, event.retired_after, RETIRED)
    return [deployment_changed(deployment, "removed", RETIRED) for deployment in ended]


def on_inference_completed(event: InferenceCompletedV1, meta: Meta, store: Store) -> Iterable[Event]:
    """Keeps the answer's figures. The gateways' own records come back to all of them: so each knows what others spent."""
    store.keep_answer(event, meta.time)
    return ()


HANDLERS: dict[type[Event], Any] = {
    ModelPromotedV1: on_model_promoted,
    ProjectDefinedV1: on_project_defined,
    InferenceCompletedV1: on_inference_completed,
}
