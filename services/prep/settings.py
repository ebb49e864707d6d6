"""Prep's settings: environment NORIA_PREP_..., NORIA_... ."""

from typing import ClassVar

from pydantic import Field

from services.chassis.settings import Settings


class PrepSettings(Settings):
    """Where the HTTP entrance listens and what a profile may cost."""

    SERVICE: ClassVar[str] = "prep"

    port: int = 8082
    profile_rows: int = Field(default=20_000, ge=1, description="Rows whose texts a profile is measured on")
    profile_topic_tokens: int = Field(
        default=2_000, ge=0, description="Tokens that the profile's topics are made of; 0: it has none"
    )
    segment_rows: int = Field(
        default=20_000, ge=1, description="Records outside of segments from which on a freeze makes segments of them"
    )
    ray_address: str | None = Field(
        default=None, description="Ray cluster that freezes compute on (ray://host:10001); default: this process"
    )
