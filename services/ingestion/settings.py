"""Ingestion's settings: environment NORIA_INGESTION_..., NORIA_... ."""

from typing import ClassVar

from pydantic import Field

from services.chassis.settings import Settings


class IngestionSettings(Settings):
    """Where the HTTP entrance listens and how much it takes."""

    SERVICE: ClassVar[str] = "ingestion"

    port: int = 8081
    upload_bytes: int = Field(default=5 << 30, ge=1, description="Longest upload of records; longer ones get 413")
    upload_reserve_bytes: int = Field(
        default=2 << 30, ge=0, description="Uploads above 64 MiB are refused (503) where the disk would keep less"
    )
    events_bytes: int = Field(default=64 << 20, ge=1, description="Longest request of CloudEvents, which is read whole")
    otlp_bytes: int = Field(
        default=16 << 20, ge=1, description="Longest request of traces or logs, packed and unpacked"
    )
    otlp_waiting_seconds: float = Field(
        default=3600.0, gt=0, description="How long a part of a call that log events told of is kept for the rest"
    )
    otlp_waiting_bytes: int = Field(
        default=64 << 20, ge=1, description="Of a project's parts of calls; beyond it the oldest are given up"
    )
    json_bytes: int = Field(default=8 << 20, ge=1, description="JSON that is read whole; more by a process of its own")
    unpack_seconds: float = Field(default=1800.0, gt=0, description="Time to read an upload that is not JSON lines")
