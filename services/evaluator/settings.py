"""Settings of the evaluator."""

from typing import ClassVar

from pydantic import Field

from services.chassis.settings import Settings


class EvaluatorSettings(Settings):
    """NORIA_EVALUATOR_... over NORIA_..."""

    SERVICE: ClassVar[str] = "evaluator"

    port: int = Field(default=8084, ge=0, le=65535, description="Port of the HTTP entrance; 0: any free one")
