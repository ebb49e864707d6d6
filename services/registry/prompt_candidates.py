"""A new prompt on weights that are there is a candidate: it gets a version, is measured and judged as new weights are.

Which weights: those in production and those of open candidates, else the newest trained ones; of these the ones that the project
still asks for (contracts.project.same_weights). Everything happens in the transaction of the definition, or of the training.
"""

from collections.abc import Iterable
from dataclasses import replace

from contracts.envelope import Event
from contracts.project import ProjectSpec, same_weights
from services.registry.domain.version import ModelVersion, prompt_run_id, registered, rejected, under_prompt
from services.registry.judgement import OPEN, ask_for_evaluation
from services.registry.store import Store
from services.registry.transitions import Action, move

REGISTRY = "registry"
"""Who withdraws a candidate whose prompt was replaced."""


def on_new_prompt(store: Store, project: str, action: Action) -> Iterable[Event]:
    """The candidates that a definition with another prompt makes, and those that it withdraws. The model's row is locked."""
    known = store.projects.current(project)
    if known is None or store.retired_after(project) is not None:
        return ()
    production = store.production(project)
    open_ = [*([production] if production else []), *store.in_stage(project, "candidate", OPEN)]
    weights = [v for v in open_ if _fits(store, v, known[1])]
    weights = weights or [v for v in store.trained_versions(project, OPEN) if _fits(store, v, known[1])][:1]
    return candidates(store, weights, known, action)


def on_new_weights(store: Store, version: ModelVersion, action: Action) -> Iterable[Event]:
    """The same for weights that were trained under a prompt that was replaced meanwhile. The model's row is locked."""
    known = store.projects.current(version.trained.project)
    if known is None or store.retired_after(version.name) is not None or not _fits(store, version, known[1]):
        return ()
    return candidates(store, [version], known, action)


def candidates(
    store: Store, weights: Iterable[ModelVersion], current: tuple[str, ProjectSpec], action: Action
) -> list[Event]:
    """Each of these weights under the current prompt; candidates under another prompt are withdrawn."""
    number = store.prompt_number(current[1].project, current[1].prompt)
    if number is None:
        return []
    events: list[Event] = []
    by_weights: dict[int, ModelVersion] = {}
    for version in weights:
        trained = version if version.weights_of is None else store.version(version.name, version.weights_of)
        if trained is not None:
            by_weights[trained.version] = trained
        if version.stage == "candidate" and version.prompt_version != number:
            events.append(_withdraw(store, version, number, action))
    for trained in by_weights.values():
        events += _candidate(store, trained, number, current, action)
    return events


def _candidate(
    store: Store, weights: ModelVersion, number: int, current: tuple[str, ProjectSpec], action: Action
) -> list[Event]:
    """These weights under this prompt as a candidate: a new version, or again the one that there is."""
    why = f"prompt {number} on the weights of version {weights.version}"
    found = weights if weights.prompt_version == number else store.of_run(prompt_run_id(weights, number))
    if found is None:
        newest = store.newest(weights.name)
        version = under_prompt(weights, newest.version + 1 if newest else 1, number, current, action.at)
        move(store, version, "candidate", "registered", replace(action, by=REGISTRY, reason=why))
        return [registered(version), ask_for_evaluation(store, version, replace(action, by=REGISTRY, reason=why))]
    if found.stage in ("production", "candidate"):
        return []
    again = replace(action, by=REGISTRY, reason=f"{why} is wanted again")
    found = move(store, replace(found, failed=(), scored=None), "candidate", "reopened", again)
    return [ask_for_evaluation(store, found, again)]


def _withdraw(store: Store, version: ModelVersion, number: int, action: Action) -> Event:
    why = f"its prompt was replaced by prompt {number}"
    gone = replace(version, detail=why, awaited=None)
    return rejected(move(store, gone, "rejected", "superseded", replace(action, by=REGISTRY, reason=why)), REGISTRY)


def _fits(store: Store, version: ModelVersion, spec: ProjectSpec) -> bool:
    then = store.projects.at(version.trained.project, version.trained.project_revision)
    return then is not None and same_weights(then, spec)
