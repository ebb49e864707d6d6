"""Ingestion's settings: environment NORIA_INGESTION_..., NORIA_... ."""

from typing import ClassVar

from pydantic import Field

from services.chassis.settings import Settings


class IngestionSettings(Settings):
    """Where the HTTP entrance listens and how much it takes."""

    SERVICE: ClassVar[str] = "ingestion"

    port: int = 8081
    upload_bytes: int = Field(default=64 << 20, ge=1, description="Longest upload; longer ones get 413")
    otlp_bytes: int = Field(
        default=16 << 20, ge=1, description="Longest request of traces or logs, packed and unpacked"
    )
    json_bytes: int = Field(default=8 << 20, ge=1, description="JSON that is read whole; more by a process of its own")
    unpack_seconds: float = Field(default=300.0, gt=0, description="Time to read an upload that is not JSON lines")
