"""Why a project's teacher cannot be asked now: its set-up, the request, its budget, its circuit. Asks nobody."""

import time
from datetime import UTC, datetime

from services.chassis.endpoints.hosts import host_of, is_allowed
from services.chassis.endpoints.secret import PREFIX, find_secret
from services.serving.domain.asked import Asked
from services.serving.domain.errors import ApiFault, TeacherAway, TeacherBusy
from services.serving.domain.routing import Target
from services.serving.domain.spending import day_of, seconds_left
from services.serving.domain.teacher_request import unfit
from services.serving.runtime import Runtime


def set_up_fault(runtime: Runtime, target: Target) -> ApiFault | None:
    """What the operator has to do before the teacher of `target` can be asked; None where nothing is."""
    settings, teacher = runtime.settings, target.teacher
    if teacher is None:
        return None
    if not is_allowed(teacher.url, settings.teacher_hosts):
        scheme, host = teacher.url.partition("://")[0], host_of(teacher.url)
        entry = f"http://{host}" if scheme == "http" else host
        said = f"The teacher's host is not allowed: put {entry!r} into NORIA_SERVING_TEACHER_HOSTS of the gateway."
        return TeacherAway(said, "teacher_not_allowed", 30)
    if teacher.key is not None and find_secret(teacher.key, settings.secrets) is None:
        where = f"set {PREFIX}{teacher.key}, or put a file {teacher.key} into the folder NORIA_SERVING_SECRETS"
        return TeacherAway(f"The teacher's key {teacher.key!r} is not here: {where}.", "teacher_key_missing", 30)
    return None


def hindrance(runtime: Runtime, asked: Asked, target: Target) -> ApiFault | None:
    """Why the teacher of `target` cannot answer this request now, None where it is to be asked.

    Of an open circuit whose pause is over the request for which this gives None is the one that tries.
    """
    project, teacher, teachers = target.model.name, target.teacher, runtime.teachers
    if teacher is None:
        return None
    if (fault := set_up_fault(runtime, target) or unfit(asked)) is not None:
        return fault
    if teacher.budget is not None:
        now = datetime.now(UTC)
        spent = teachers.spending.of(project, day_of(now))
        if spent is None:
            said = "What was spent on the teacher today is not known yet; the request can be sent again soon."
            return TeacherAway(said, "teacher_budget_unknown", 1)
        if spent >= teacher.budget:
            teachers.note_spent(project, teacher.budget)
            currency = teacher.price.currency if teacher.price else ""
            said = f"The budget of {teacher.budget:g} {currency} a day for the teacher of {project!r} is spent."
            return TeacherBusy(said, "teacher_budget_spent", seconds_left(now))
    if not teachers.enter(project, teacher, time.monotonic()):
        said = f"The teacher of {project!r} failed again and again; it is left alone for a while."
        return TeacherAway(said, "teacher_circuit_open", max(1, int(teacher.breaker.pause.total_seconds())))
    return None
