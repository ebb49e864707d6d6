"""The part of a service's store that the chassis brings: the session, jobs and projects of one transaction."""

from collections.abc import Sequence

from sqlmodel import Session

from contracts.envelope import Event
from services.chassis.jobs.queue import JobQueue
from services.chassis.storage.projects import ProjectRevisions


class ChassisStore:
    """Base of a service's SqlStore: `class SqlStore(ChassisStore)` adds what the service keeps.

    A store may read for all handlers of a batch at once and hold back what they write: a statement a message costs more
    than all else that is done with it.
    """

    def __init__(self, session: Session) -> None:
        self.session = session
        self.jobs = JobQueue(session)
        self.projects = ProjectRevisions(session)

    def prefetch(self, events: Sequence[Event]) -> None:
        """Reads what the handlers of these events will ask for; called before a batch, not in every transaction."""

    def flush(self) -> None:
        """Writes what was held back; called before a transaction or a savepoint ends."""
