"""What the routes of every service refuse of a project that was taken out of service."""

from services.chassis.http.application import ApiError
from services.chassis.storage.projects import Projects


def check_in_service(projects: Projects, project: str) -> None:
    """Raises ApiError 409 `project_retired` where the project is out of service: no new work is done for it."""
    if projects.is_retired(project):
        message = f"project {project!r} is out of service; `noria apply` with its file, or a promotion, brings it back"
        raise ApiError(409, "project_retired", message)
