"""Prep's settings: environment NORIA_PREP_..., NORIA_... ."""

from typing import ClassVar

from pydantic import Field

from services.chassis.settings import Settings


class PrepSettings(Settings):
    """Where the HTTP entrance listens and what a profile may cost."""

    SERVICE: ClassVar[str] = "prep"

    port: int = 8082
    profile_rows: int = Field(default=20_000, ge=1, description="Rows that tokens and languages are measured on")
    ray_address: str | None = Field(
        default=None, description="Ray cluster that freezes compute on (ray://host:port, local); default: this process"
    )
