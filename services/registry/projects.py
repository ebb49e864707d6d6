"""Defines projects and shows them. Knows no file format and no route."""

from collections.abc import Iterable
from datetime import datetime
from pathlib import Path
from typing import Any

from pydantic import JsonValue, ValidationError

from contracts.events.registry import ProjectDefinedV1
from contracts.project import APPLYING, ProjectSpec
from services.chassis.http.application import ApiError
from services.lm.bases import find_local
from services.registry.domain.revision import revision
from services.registry.store import Store

MOST_BYTES = 128 << 10
"""Of a specification as JSON: datasets', models' and scores' events carry it, and Kafka takes 1 MB."""


def define(
    store: Store, body: dict[str, JsonValue], now: datetime
) -> tuple[dict[str, Any], Iterable[ProjectDefinedV1]]:
    """The answer {project, revision, changed} and the event that tells everyone, none where nothing changed.

    Raises:
        ApiError: 422 `invalid_project` with a list of {loc, msg}.
    """
    spec = _validated(body)
    digest = revision(spec)
    _check_size(spec)
    store.lock(spec.project)
    known = store.projects.current(spec.project)
    changed = known is None or known[0] != digest
    sequence = store.projects.next_sequence(spec.project, now)
    event = ProjectDefinedV1(project=spec.project, revision=digest, spec=spec, sequence=sequence)
    if changed:
        store.projects.remember(event, now)
    return {"project": spec.project, "revision": digest, "changed": changed}, (event,) if changed else ()


def check_system_prompt(body: dict[str, JsonValue], cache: Path) -> None:
    """Refuses a prompt.system that the base does not take, where the base's files are at hand; else the first job does.

    Raises:
        ApiError: 422 `invalid_project`, as `define`.
    """
    spec = _validated(body)
    directory = find_local(spec.base, cache)
    if spec.prompt.system is None or directory is None:
        return
    from services.lm.errors import TemplateRefused  # with transformers' renderer: for projects with a prompt alone
    from services.lm.system_prompt import system_refusal
    from services.lm.template import read_template

    try:
        why = system_refusal(read_template(directory), spec.prompt.system, spec.base)
    except TemplateRefused as error:
        why = f"the base {spec.base!r} cannot be used: {error}"
    if why:
        raise ApiError(422, "invalid_project", why[:1000], [{"loc": ["prompt", "system"], "msg": why}])


def view(store: Store, project: str) -> dict[str, Any]:
    """The specification in force, and the revisions with the time each came in force, newest first.

    Raises:
        ApiError: 404 `unknown_project`.
    """
    known = store.projects.current(project)
    if known is None:
        raise ApiError(404, "unknown_project", f"no project {project!r}; define it with POST /v1/projects")
    past = [{"revision": digest, "defined_at": at.isoformat()} for digest, at in store.revisions(project)]
    return {"project": project, "revision": known[0], "spec": known[1].model_dump(mode="json"), "revisions": past}


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
