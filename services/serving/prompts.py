"""The versions of projects' prompts in serving's database, for requests that name one. Decides nothing."""

from typing import Protocol

from sqlalchemy import delete
from sqlmodel import Session, col, select

from contracts.prompt import Prompt
from services.serving.tables import PromptRow

KEPT = 100
"""So many prompts of a project, the newest, can be asked for by their number; what is served is kept with its version."""


class PromptStore(Protocol):
    """The part of `Store` that asks of prompts."""

    def keep_prompt(self, project: str, number: int | None, prompt: Prompt) -> None:
        """Keeps a project's prompt under its number; without one, nothing. The oldest beyond KEPT go."""
        ...

    def prompt(self, project: str, number: int) -> Prompt | None:
        """A project's prompt, or None."""
        ...

    def prompt_numbers(self, project: str) -> list[int]:
        """The numbers of a project's prompts that are kept, ascending."""
        ...


class PromptQueries:
    """`PromptStore` in the service's database; whoever takes it has the session."""

    session: Session

    def keep_prompt(self, project: str, number: int | None, prompt: Prompt) -> None:
        """Keeps a project's prompt under its number; without one, nothing. The oldest beyond KEPT go."""
        if number is None:
            return
        self.session.merge(PromptRow(project=project, number=number, prompt=prompt.model_dump(mode="json")))
        self.session.flush()
        newest = select(PromptRow.number).where(PromptRow.project == project).order_by(col(PromptRow.number).desc())
        last = self.session.exec(newest.offset(KEPT - 1).limit(1)).first()
        if last is not None:
            older = delete(PromptRow).where(col(PromptRow.project) == project, col(PromptRow.number) < last)
            self.session.connection().execute(older)

    def prompt(self, project: str, number: int) -> Prompt | None:
        """A project's prompt, or None."""
        row = self.session.get(PromptRow, (project, number))
        return None if row is None else Prompt.model_validate(row.prompt)

    def prompt_numbers(self, project: str) -> list[int]:
        """The numbers of a project's prompts that are kept, ascending."""
        numbers = select(PromptRow.number).where(PromptRow.project == project)
        return list(self.session.exec(numbers.order_by(col(PromptRow.number))).all())
