"""The part of a service's store that the chassis brings: the session, jobs and projects of one transaction."""

from sqlmodel import Session

from services.chassis.jobs.queue import JobQueue
from services.chassis.storage.projects import ProjectRevisions


class ChassisStore:
    """Base of a service's SqlStore: `class SqlStore(ChassisStore)` adds what the service keeps."""

    def __init__(self, session: Session) -> None:
        self.session = session
        self.jobs = JobQueue(session)
        self.projects = ProjectRevisions(session)
