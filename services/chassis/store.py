"""The part of a service's store that the chassis brings: the session, jobs and projects of one transaction."""

from sqlmodel import Session

from services.chassis.jobs import JobBook
from services.chassis.projects import ProjectBook


class ChassisStore:
    """Base of a service's SqlStore: `class SqlStore(ChassisStore)` adds what the service keeps."""

    def __init__(self, session: Session) -> None:
        self.session = session
        self.jobs = JobBook(session)
        self.projects = ProjectBook(session)
