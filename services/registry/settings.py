"""Settings of the registry."""

from typing import ClassVar

from pydantic import Field

from services.chassis.settings import Settings


class RegistrySettings(Settings):
    """NORIA_REGISTRY_... over NORIA_..."""

    SERVICE: ClassVar[str] = "registry"

    port: int = Field(default=8085, ge=0, le=65535, description="Port of the HTTP entrance; 0: any free one")
