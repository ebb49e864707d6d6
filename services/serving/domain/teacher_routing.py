"""Who answers a request of a project with a teacher: it, a version of the project's own, or the base. Asks nobody."""

from collections.abc import Callable

from contracts.project import ProjectSpec
from contracts.types import ModelRef
from services.serving.domain.errors import ApiFault, ModelNotFound
from services.serving.domain.routing import TEACHER, Routes, Target, project_of, resolve
from services.serving.domain.served_version import Applied

NOT_SET_UP = ("teacher_not_allowed", "teacher_key_missing")
"""Codes of what the operator has to do first: nothing answers in the teacher's place, or nobody would notice."""
LONGEST = 2**31 - 1
WHOLE = 2.0
"""A draw above any share: of who answers most."""


def teacher_target(applied: Applied) -> Target | None:
    """The target of a project's teacher, under the prompt in force; None where it has none."""
    spec: ProjectSpec = applied.spec
    if (teacher := spec.serve.teacher) is None:
        return None
    return Target(
        model=ModelRef(name=spec.project, version=0),
        triton_model=f"{TEACHER}:{spec.project}",
        lora=None,
        fingerprint=f"{TEACHER}_{teacher.model}",
        template=None,
        model_length=LONGEST,
        prompt=spec.prompt,
        serve=spec.serve,
        deployed_at=applied.defined_at,
        prompt_version=applied.prompt_version,
        teacher=teacher,
    )


def has_own(routes: Routes, project: str) -> bool:
    """Whether a version of the project's own is in production: the base, promoted by hand, is none."""
    name = routes.production.get(project)
    return name is not None and routes.targets[name].model.version > 0


def answerer(
    routes: Routes,
    name: str,
    draw: float,
    hindrance: Callable[[Target], ApiFault | None],
    ready: Callable[[Target], bool],
) -> tuple[Target, ApiFault | None]:
    """Who answers to a request's `model`, and why the teacher does not where it should.

    Args:
        routes: as they are now.
        name: what the request names.
        draw: evenly from [0, 1): below the teacher's share it is the teacher's.
        hindrance: why a teacher cannot answer this request now, None where it can; asked only where it would.
        ready: whether a target of Triton's can answer now.

    Raises:
        ApiFault: nothing answers to the name, or only a teacher would that cannot.
    """
    project, _, version = name.partition("@")
    teacher = routes.teachers.get(project)
    if version == TEACHER:
        if teacher is None:
            raise ModelNotFound(f"The model {name!r} does not exist: the project's file has no serve.teacher.")
        if (fault := hindrance(teacher)) is not None:
            raise fault
        return teacher, None
    if teacher is None or version:
        return resolve(routes, name), None
    own = has_own(routes, project)
    if own and draw >= teacher.serve.teacher.share:  # pyright: ignore[reportOptionalMemberAccess] - a teacher's target has one
        return resolve(routes, name), None
    if (fault := hindrance(teacher)) is None:
        return teacher, None
    if fault.code in NOT_SET_UP and not own:
        raise fault
    try:
        instead = resolve(routes, project_of(name))
    except ApiFault:
        raise fault from None
    if not ready(instead):
        raise fault
    return instead, fault
