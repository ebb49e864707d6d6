"""Where the local stack lives and listens, from the environment. Starts nothing."""

from pathlib import Path

from pydantic import Field, field_validator
from pydantic_settings import BaseSettings, SettingsConfigDict

SERVICES = ("ingestion", "prep", "trainer", "evaluator", "registry", "serving", "feedback")


class StackSettings(BaseSettings):
    """Folders and ports of one local stack; NORIA_HOME, NORIA_KAFKA_PORT, NORIA_PREP_PORT and so on, or a `.env` file."""

    model_config = SettingsConfigDict(env_prefix="NORIA_", env_file=".env", extra="ignore", env_ignore_empty=True)

    home: Path = Field(default=Path(".noria"), validate_default=True)
    cache: Path = Field(default=Path("~/.cache/noria"), validate_default=True)
    host: str = "127.0.0.1"
    api_keys: Path | None = None
    kafka_port: int = 9092
    kafka_controller_port: int = 9093
    triton_http_port: int = 8000
    triton_grpc_port: int = 8001
    triton_metrics_port: int = 8002
    serving_port: int = 8080
    ingestion_port: int = 8081
    prep_port: int = 8082
    trainer_port: int = 8083
    evaluator_port: int = 8084
    registry_port: int = 8085
    feedback_port: int = 8086
    gc_every: str = Field(default="7d", pattern=r"^([1-9]\d*[hd]|never)$")

    @field_validator("home", "cache", "api_keys")
    @classmethod
    def _absolute(cls, path: Path | None) -> Path | None:
        return path and path.expanduser().absolute()

    @property
    def api_keys_file(self) -> Path:
        """Where the digests of API keys lie."""
        return self.api_keys or self.home / "state" / "api-keys.json"

    @property
    def kafka_bootstrap(self) -> str:
        """Kafka's address for clients."""
        return f"{self.host}:{self.kafka_port}"

    def port(self, name: str) -> int:
        """The port of a part: a service's name, kafka, triton_http, ..."""
        return int(getattr(self, f"{name}_port"))

    def url(self, name: str) -> str:
        """The HTTP address of a part."""
        return f"http://{self.host}:{self.port(name)}"

    def environment(self) -> dict[str, str]:
        """These settings as environment variables, for every process of the stack."""
        values = {f"NORIA_{name.upper()}": str(value) for name, value in self.model_dump(exclude_none=True).items()}
        return values | {"NORIA_KAFKA_BOOTSTRAP": self.kafka_bootstrap}
