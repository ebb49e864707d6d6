"""The prompts of projects in the registry's database: a number for each distinct one. Decides nothing."""

from datetime import datetime
from typing import Protocol

from sqlmodel import Session, col, func, select

from contracts.prompt import Prompt, prompt_digest
from services.registry.domain.prompt import PromptVersion
from services.registry.domain.version import ModelVersion
from services.registry.rows import prompt_of, version_of
from services.registry.tables import PromptRow, VersionRow


class PromptStore(Protocol):
    """The part of `Store` that asks of prompts."""

    def count_prompt(self, project: str, prompt: Prompt, revision: str, at: datetime) -> int:
        """The prompt's number in its project, the next one where it is new."""
        ...

    def keep_prompt(self, version: PromptVersion) -> None:
        """Adds a version of a prompt."""
        ...

    def prompt_number(self, project: str, prompt: Prompt) -> int | None:
        """The number that the prompt has in its project, or None."""
        ...

    def prompt(self, project: str, number: int) -> PromptVersion | None:
        """A version of a project's prompt, or None."""
        ...

    def prompts(self, project: str, limit: int, below: int | None = None) -> list[PromptVersion]:
        """A project's prompts, newest first, from below a number."""
        ...

    def with_prompt(self, name: str, number: int, limit: int) -> list[int]:
        """The newest versions of a model that are served under a prompt, newest first."""
        ...

    def trained_versions(self, name: str, limit: int) -> list[ModelVersion]:
        """The newest versions with weights of their own, newest first."""
        ...


class PromptQueries:
    """`PromptStore` in the service's database; whoever takes it has the session."""

    session: Session

    def count_prompt(self, project: str, prompt: Prompt, revision: str, at: datetime) -> int:
        """The prompt's number in its project, the next one where it is new. The model's row is locked."""
        known = self.prompt_number(project, prompt)
        if known is not None:
            return known
        newest = select(func.max(PromptRow.number)).where(PromptRow.project == project)
        number = (self.session.exec(newest).one() or 0) + 1
        self.keep_prompt(PromptVersion(project, number, prompt, revision, at))
        return number

    def keep_prompt(self, version: PromptVersion) -> None:
        """Adds a version of a prompt."""
        row = PromptRow(
            project=version.project,
            number=version.number,
            digest=prompt_digest(version.prompt),
            prompt=version.prompt.model_dump(mode="json"),
            revision=version.revision,
            at=version.at,
        )
        self.session.add(row)
        self.session.flush()

    def prompt_number(self, project: str, prompt: Prompt) -> int | None:
        """The number that the prompt has in its project, or None."""
        of_digest = PromptRow.project == project, PromptRow.digest == prompt_digest(prompt)
        return self.session.exec(select(PromptRow.number).where(*of_digest)).first()

    def prompt(self, project: str, number: int) -> PromptVersion | None:
        """A version of a project's prompt, or None."""
        row = self.session.get(PromptRow, (project, number))
        return None if row is None else prompt_of(row)

    def prompts(self, project: str, limit: int, below: int | None = None) -> list[PromptVersion]:
        """A project's prompts, newest first, from below a number."""
        found = select(PromptRow).where(PromptRow.project == project)
        if below is not None:
            found = found.where(col(PromptRow.number) < below)
        rows = self.session.exec(found.order_by(col(PromptRow.number).desc()).limit(limit)).all()
        return [prompt_of(row) for row in rows]

    def with_prompt(self, name: str, number: int, limit: int) -> list[int]:
        """The newest versions of a model that are served under a prompt, newest first."""
        version = col(VersionRow.version)
        found = select(VersionRow.version).where(VersionRow.name == name, VersionRow.prompt_version == number)
        return list(self.session.exec(found.order_by(version.desc()).limit(limit)).all())

    def trained_versions(self, name: str, limit: int) -> list[ModelVersion]:
        """The newest versions with weights of their own, newest first."""
        found = select(VersionRow).where(VersionRow.name == name, col(VersionRow.weights_of).is_(None))
        rows = self.session.exec(found.order_by(col(VersionRow.version).desc()).limit(limit)).all()
        return [version_of(row) for row in rows]
