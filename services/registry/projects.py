"""Defines projects, shows them, takes them out of service and back into it."""

from collections.abc import Iterable
from datetime import datetime
from pathlib import Path
from typing import Any

from pydantic import JsonValue, ValidationError

from contracts.envelope import Event
from contracts.events.registry import EvaluationRequestedV1, ProjectDefinedV1
from contracts.project import APPLYING, ProjectSpec
from services.chassis.http.application import ApiError
from services.lm.bases import find_local
from services.lm.errors import PromptInvalid, TemplateRefused
from services.lm.prompt_template import check_prompt
from services.registry.domain.revision import revision
from services.registry.prompt_candidates import on_new_prompt
from services.registry.store import Store
from services.registry.transitions import Action, deployable, move, promote, promote_base, write_history

REVISIONS = 50
"""So many of a project's revisions are shown, the newest."""

MOST_BYTES = 128 << 10
"""Of a specification as JSON: datasets', models' and scores' events carry it, and Kafka takes 1 MB."""


def define(store: Store, body: dict[str, JsonValue], now: datetime) -> tuple[dict[str, Any], Iterable[Event]]:
    """The answer and the events that tell everyone, none where nothing changed.

    A project that was out of service is back in it: what served last is promoted again. Another prompt is a candidate on the
    weights that there are. The answer is {project, revision, changed, prompt_version, candidates: the versions to be measured}.

    Raises:
        ApiError: 422 `invalid_project` with a list of {loc, msg}.
    """
    spec = _validated(body)
    digest = revision(spec)
    _check_size(spec)
    store.lock(spec.project)
    known = store.projects.current(spec.project)
    was_retired = store.retired_after(spec.project) is not None
    changed = known is None or known[0] != digest or was_retired
    answer = {"project": spec.project, "revision": digest, "changed": changed}
    if not changed:
        return answer | {"prompt_version": store.prompt_number(spec.project, spec.prompt), "candidates": []}, ()
    sequence = store.projects.next_sequence(spec.project, now)
    prompt = store.count_prompt(spec.project, spec.prompt, digest, now)
    event = ProjectDefinedV1(project=spec.project, revision=digest, spec=spec, sequence=sequence, prompt_version=prompt)
    action = Action("apply", "the project was applied again", now)
    store.projects.remember(event, now)
    promoted = _promote_last(store, spec.project, action) if was_retired else ()
    new_prompt = known is not None and known[1].prompt != spec.prompt
    candidates = tuple(on_new_prompt(store, spec.project, action)) if new_prompt else ()
    measured = [asked.model.version for asked in candidates if isinstance(asked, EvaluationRequestedV1)]
    answer |= {"prompt_version": prompt, "candidates": measured}
    return answer, (event, *promoted, *candidates)


def check_system_prompt(body: dict[str, JsonValue], cache: Path) -> None:
    """Refuses a template that is none, and a prompt.system that the base does not take.

    The latter where the base's files are at hand; else the first job does.

    Raises:
        ApiError: 422 `invalid_project`, as `define`.
    """
    spec = _validated(body)
    try:
        check_prompt(spec.prompt)
    except PromptInvalid as error:
        raise ApiError(
            422, "invalid_project", str(error)[:1000], [{"loc": ["prompt", *error.key], "msg": str(error)}]
        ) from error
    directory = find_local(spec.base, cache)
    if spec.prompt.system is None or directory is None:
        return
    from services.lm.system_prompt import (
        system_refusal,
    )  # with transformers' renderer: for projects with a prompt alone
    from services.lm.template import read_template

    try:
        why = system_refusal(read_template(directory), spec.prompt, spec.base)
    except TemplateRefused as error:
        why = f"the base {spec.base!r} cannot be used: {error}"
    if why:
        raise ApiError(422, "invalid_project", why[:1000], [{"loc": ["prompt", "system"], "msg": why}])


def retire(store: Store, project: str, action: Action) -> Iterable[Event]:
    """Takes a project out of service: nothing of it is served or trained, all of it is kept. None where it is already.

    Raises:
        ApiError: 404 `unknown_project`.
    """
    store.lock(project)
    digest, spec = _known(store, project)
    if store.retired_after(project) is not None:
        return ()
    take_out_of_service(store, project, action)
    event = ProjectDefinedV1(
        project=project,
        revision=digest,
        spec=spec,
        sequence=store.projects.next_sequence(project, action.at),
        retired_after=store.retired_after(project),
        prompt_version=store.prompt_number(project, spec.prompt),
        by=action.by,
        reason=action.reason,
    )
    store.projects.remember(event, action.at)
    return (event,)


def take_out_of_service(store: Store, project: str, action: Action) -> None:
    """Archives the version in production; no promotion so far is in force any more."""
    production, number = store.production(project), store.promotions(project)
    if production is not None:
        move(store, production, "archived", "retired", action)
    elif number:
        write_history(store, project, 0, "production", "archived", "retired", action)
    store.retire(project, number)


def _promote_last(store: Store, project: str, action: Action) -> Iterable[Event]:
    """What was in production when the project was taken out of service, there again."""
    store.retire(project, None)
    last = deployable(store, project, store.promotions(project))
    if last is None:
        return ()
    version = store.version(project, last.version)
    return promote(store, version, "promote", action) if version else promote_base(store, project, action)


def view(store: Store, project: str) -> dict[str, Any]:
    """The specification in force, and the newest revisions with the time each came in force, newest first.

    Raises:
        ApiError: 404 `unknown_project`.
    """
    digest, spec = _known(store, project)
    past = [{"revision": digest, "defined_at": at.isoformat()} for digest, at in store.revisions(project, REVISIONS)]
    return {
        "project": project,
        "revision": digest,
        "retired": store.retired_after(project) is not None,
        "prompt_version": store.prompt_number(project, spec.prompt),
        "spec": spec.model_dump(mode="json"),
        "revisions": past,
    }


def _known(store: Store, project: str) -> tuple[str, ProjectSpec]:
    known = store.projects.current(project)
    if known is None:
        raise ApiError(404, "unknown_project", f"no project {project!r}; define it with POST /v1/projects")
    return known


def _check_size(spec: ProjectSpec) -> None:
    size = len(spec.model_dump_json().encode())
    if size > MOST_BYTES:
        raise ApiError(
            422,
            "invalid_project",
            f"the specification has {size} bytes; at most {MOST_BYTES} travel with events, shorten it",
        )


def _validated(body: dict[str, JsonValue]) -> ProjectSpec:
    try:
        return ProjectSpec.model_validate(body, context=APPLYING)
    except ValidationError as error:
        problems = [{"loc": list(e["loc"]), "msg": e["msg"]} for e in error.errors(include_url=False)]
        message = "; ".join(f"{'.'.join(map(str, p['loc'])) or 'project'}: {p['msg']}" for p in problems[:5])
        raise ApiError(422, "invalid_project", message[:1000], problems) from error
