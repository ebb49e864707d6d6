"""What one gateway remembers of teachers: circuits, today's spending, the connection. Asks nobody."""

from dataclasses import dataclass, field
from datetime import UTC, date, datetime
from http.cookiejar import DefaultCookiePolicy
from typing import Any

import httpx
import structlog

from contracts.teacher import Teacher
from services.serving.domain.breaker import Circuit
from services.serving.domain.spending import Spending

LOG: Any = structlog.get_logger("serving")


@dataclass(slots=True)
class Teachers:
    """Touched by the event loop's thread alone; all of it but what is pending of the spending can be lost."""

    circuits: dict[str, Circuit] = field(default_factory=dict[str, Circuit])
    """By project."""
    spending: Spending = field(default_factory=Spending)
    spent: dict[str, date] = field(default_factory=dict[str, date])
    """The day on which each project's budget was last said to be spent."""
    http: httpx.AsyncClient | None = None

    def client(self) -> httpx.AsyncClient:
        """The one client of this process: it follows no redirect and keeps no cookie."""
        if self.http is None:
            limits = httpx.Limits(max_connections=None, max_keepalive_connections=64)
            self.http = httpx.AsyncClient(follow_redirects=False, limits=limits)
            self.http.cookies.jar.set_policy(DefaultCookiePolicy(allowed_domains=[]))
        return self.http

    def enter(self, project: str, teacher: Teacher, now: float) -> bool:
        """Whether a request may be sent to the project's teacher: not while its circuit is open."""
        entered = self.circuits.get(project, Circuit()).enter(now, teacher.breaker.pause.total_seconds())
        if entered is not None:
            self.circuits[project] = entered
        return entered is not None

    def failed(self, project: str, teacher: Teacher, now: float, why: str) -> None:
        """Notes that a request failed; the one that opens the circuit is logged."""
        before = self.circuits.get(project, Circuit())
        after = before.failed(now, teacher.breaker.failures, teacher.breaker.pause.total_seconds())
        self.circuits[project] = after
        if before.is_closed and not after.is_closed:
            LOG.warning("teacher.circuit_opened", project=project, failures=after.failures, detail=why[:300])

    def succeeded(self, project: str) -> None:
        """Notes an answer."""
        before = self.circuits.get(project, Circuit())
        if not before.is_closed:
            LOG.info("teacher.circuit_closed", project=project)
        self.circuits[project] = before.succeeded()

    def note_spent(self, project: str, budget: float) -> None:
        """Logs once a day that a budget is spent."""
        today = datetime.now(UTC).date()
        if self.spent.get(project) != today:
            self.spent[project] = today
            LOG.warning("teacher.budget_spent", project=project, budget=budget)
