"""A version of a project's prompt. Pure data."""

from dataclasses import dataclass
from datetime import datetime

from contracts.prompt import Prompt


@dataclass(frozen=True, slots=True)
class PromptVersion:
    """One of a project's distinct prompts; `number` counts them: 1, 2, ... `revision` is the first that had it, `at` when."""

    project: str
    number: int
    prompt: Prompt
    revision: str
    at: datetime
