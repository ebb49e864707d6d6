"""Settings of the trainer."""

from typing import ClassVar

from pydantic import Field

from services.chassis.settings import Settings


class TrainerSettings(Settings):
    """NORIA_TRAINER_... over NORIA_..."""

    SERVICE: ClassVar[str] = "trainer"

    port: int = Field(default=8083, ge=0, le=65535, description="Port of the HTTP entrance; 0: any free one")
    price_per_hour: float = Field(
        default=0.0,
        ge=0,
        description="Money for an hour of training on this machine; what train.budget.money is spent at",
    )
    checkpoint_seconds: float = Field(default=60.0, gt=0, description="Longest time of training that a crash may cost")
    checkpoint_upload_seconds: float = Field(
        default=300.0, gt=0, description="Longest time of training that a lost disk or machine may cost, uploads aside"
    )
