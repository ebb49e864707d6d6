"""What was spent on teachers today, as one gateway knows it: what the records say, and its own that they lack. Pure."""

from collections.abc import Collection
from dataclasses import dataclass, field
from datetime import UTC, date, datetime, timedelta


@dataclass(frozen=True, slots=True)
class Paid:
    """An answer that this gateway got, of which the records in the database may not tell yet."""

    request_id: str
    project: str
    day: date
    cost: float


@dataclass(slots=True)
class Spending:
    """Touched by the event loop's thread alone."""

    known: dict[str, tuple[date, float]] = field(default_factory=dict[str, tuple[date, float]])
    """Of each project: a day and what the records said was spent on it."""
    pending: dict[str, Paid] = field(default_factory=dict[str, Paid])
    """By request id."""

    def pay(self, paid: Paid) -> None:
        """Notes the cost of an answer."""
        if paid.cost:
            self.pending[paid.request_id] = paid

    def learn(self, project: str, day: date, spent: float, seen: Collection[str]) -> None:
        """Takes what the records say of a project's day; those of the `seen` requests are among them."""
        self.known[project] = day, spent
        for request_id in seen:
            self.pending.pop(request_id, None)

    def of(self, project: str, day: date) -> float | None:
        """Money that was spent on a project's teacher on this day; None while nobody has asked the records."""
        known = self.known.get(project)
        if known is None:
            return None
        recorded = known[1] if known[0] == day else 0.0
        return recorded + sum(p.cost for p in self.pending.values() if (p.project, p.day) == (project, day))

    def waiting(self, project: str) -> list[str]:
        """Ids of a project's answers of which the records did not tell yet."""
        return [p.request_id for p in self.pending.values() if p.project == project]


def day_of(moment: datetime) -> date:
    """The day of a budget: UTC's."""
    return moment.astimezone(UTC).date()


def begins(day: date) -> datetime:
    """The first moment of a day."""
    return datetime(day.year, day.month, day.day, tzinfo=UTC)


def seconds_left(now: datetime) -> int:
    """Until the next day's budget."""
    return max(1, int((begins(day_of(now) + timedelta(days=1)) - now).total_seconds()))
