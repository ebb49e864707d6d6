"""Settings of the evaluator."""

from datetime import timedelta
from pathlib import Path
from typing import ClassVar

from pydantic import Field

from services.chassis.settings import Settings


class EvaluatorSettings(Settings):
    """NORIA_EVALUATOR_... over NORIA_..."""

    SERVICE: ClassVar[str] = "evaluator"

    port: int = Field(default=8084, ge=0, le=65535, description="Port of the HTTP entrance; 0: any free one")
    predictions_days: float = Field(
        default=90.0, gt=0, description="Predictions of a model are kept so long after an evaluation last wanted them"
    )
    predictions_examples: int = Field(
        default=20_000, ge=1, description="Examples a file of predictions holds, beyond those of its last evaluation"
    )

    judge_hosts: str = Field(
        default="",
        description="Hosts that a project's evaluate.judge may name, with commas between them; over https, unless one begins "
        "with http://",
    )
    secrets: Path | None = Field(
        default=None,
        description="Folder whose files hold the secrets that project files name; else the environment's NORIA_SECRET_<NAME> do",
    )

    @property
    def predictions_retention(self) -> timedelta:
        """How long predictions that nothing wants are kept."""
        return timedelta(days=self.predictions_days)
