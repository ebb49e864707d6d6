"""Settings from the environment: NORIA_<SERVICE>_X over NORIA_X, and a `.env` file. Opens nothing."""

from pathlib import Path
from typing import ClassVar, Literal

from pydantic import Field, SecretStr, field_validator
from pydantic_settings import (
    BaseSettings,
    DotEnvSettingsSource,
    EnvSettingsSource,
    PydanticBaseSettingsSource,
    SettingsConfigDict,
)


class Settings(BaseSettings):
    """What every service can be told. A service subclasses it, names itself in SERVICE and sets its port."""

    model_config = SettingsConfigDict(extra="ignore", env_ignore_empty=True, hide_input_in_errors=True)

    SERVICE: ClassVar[str] = "noria"

    home: Path = Field(default=Path(".noria"), description="Folder of all state", validate_default=True)
    cache: Path = Field(default=Path("~/.cache/noria"), description="Folder of downloads", validate_default=True)
    host: str = Field(default="127.0.0.1", description="Address the HTTP entrance listens on")
    port: int = Field(default=0, ge=0, le=65535, description="Port of the HTTP entrance; 0: any free one")
    kafka_bootstrap: str = Field(default="127.0.0.1:9092", description="Kafka's bootstrap servers, host:port,...")
    kafka_security_protocol: Literal["PLAINTEXT", "SSL", "SASL_PLAINTEXT", "SASL_SSL"] = Field(
        default="PLAINTEXT", description="How clients speak to Kafka"
    )
    kafka_sasl_mechanism: Literal["PLAIN", "SCRAM-SHA-256", "SCRAM-SHA-512"] | None = None
    kafka_sasl_username: str | None = None
    kafka_sasl_password: SecretStr | None = None
    kafka_sasl_password_file: Path | None = Field(default=None, description="Holds the password; read at start")
    kafka_ssl_cafile: Path | None = Field(default=None, description="PEM; default: the system's authorities")
    kafka_ssl_certfile: Path | None = Field(default=None, description="PEM certificate of this client, for mutual TLS")
    kafka_ssl_keyfile: Path | None = Field(default=None, description="Its PEM key, where not in the same file")
    database: str | None = Field(
        repr=False, default=None, description="SQLAlchemy URL; default: SQLite under home/state"
    )
    artifacts: str | None = Field(default=None, description="Root of the artifact store; default: home/artifacts")
    artifact_roots: list[str] = Field(default_factory=list[str], description="Further roots to read artifacts from")
    api_keys: Path | None = Field(default=None, description="File of API keys; default: home/state/api-keys.json")
    max_body_bytes: int = Field(default=1 << 20, ge=1, description="Longest body of a request; longer ones get 413")
    rate_per_second: float = Field(default=500.0, ge=0, description="Requests of a key or address; 0: no limit")
    rate_burst: int = Field(default=2000, ge=1, description="Requests of a key or address at once; more get 429")
    log_level: str = Field(default="info", description="debug, info, warning or error")
    batch_records: int = Field(default=1000, ge=1, description="Most messages in one transaction")
    handler_attempts: int = Field(default=10, ge=1, description="Tries before an unexpected fault makes a message dead")
    park_seconds: float = Field(default=60.0, gt=0, description="Longest pause between tries of a parked message")
    park_days: float = Field(
        default=7.0, gt=0, description="A message that is parked for so long becomes a dead letter with its reason"
    )
    job_attempts: int = Field(default=12, ge=1, description="Tries of a job in a row that fail in passing")
    job_crashes: int = Field(default=3, ge=1, description="Tries of a job in a row whose process crashed or was killed")
    job_retry_seconds: float = Field(default=5.0, gt=0, le=3600, description="Pause before a job's second try")
    job_retry_max_seconds: float = Field(
        default=900.0, gt=0, le=3600, description="Longest pause between a job's tries"
    )
    job_keep_days: float = Field(
        default=3.0, ge=0, description="Days that a failed or cancelled job's checkpoint stays"
    )
    job_slots: int = Field(default=1, ge=1, le=256, description="Jobs of a kind that this process runs at once")
    job_turn_seconds: float = Field(
        default=1800.0, gt=0, description="So long a resumable job runs before it gives way to another project's"
    )
    lease_seconds: float = Field(default=20.0, gt=0, description="A lease not renewed for so long is free")
    inbox_days: float = Field(default=60.0, gt=0, description="A message that comes again so late takes effect again")
    job_days: float = Field(default=90.0, gt=0, description="Rows of jobs that are over are kept for so long")
    prune_seconds: float = Field(default=60.0, gt=0, description="Between two looks for rows that are too old")
    cache_days: float = Field(
        default=7.0, gt=0, description="Local copies of an object store's artifacts stay so long after they were wanted"
    )
    artifact_days: float = Field(
        default=0.0,
        ge=0,
        description="Rows of what is superseded or rejected hold their artifacts so long; 0: for ever",
    )
    artifact_grace_days: float = Field(
        default=7.0,
        gt=0,
        description="An artifact that was put later is never collected: who names it may be on the way",
    )
    topic_retention_days: dict[str, float] = Field(
        default_factory=dict[str, float],
        description="Kafka's retention by topic where it shall not be the catalogue's, for topics made from now on;"
        ' "dead_letters" stands for all dead-letter topics',
    )
    stop_seconds: float = Field(default=8.0, gt=0, description="Time a job's process has to save its state")

    @field_validator("home", "cache", "api_keys")
    @classmethod
    def _absolute(cls, path: Path | None) -> Path | None:
        return path and path.expanduser().absolute()

    @property
    def api_keys_file(self) -> Path:
        """Where the digests of API keys lie."""
        return self.api_keys or self.home / "state" / "api-keys.json"

    @property
    def database_url(self) -> str:
        """The SQLAlchemy URL of the service's database."""
        return self.database or f"sqlite:///{self.home / 'state' / f'{self.SERVICE}.db'}"

    @property
    def artifact_root(self) -> str:
        """Where artifacts are written, as a URI."""
        return self.artifacts or (self.home / "artifacts").as_uri()

    @property
    def group(self) -> str:
        """The consumer group."""
        return f"{self.SERVICE}.main"

    @property
    def source(self) -> str:
        """The CloudEvents source of what the service emits."""
        return f"/noria/{self.SERVICE}"

    def environment(self) -> dict[str, str]:
        """These settings as environment variables, for a child process; secrets in clear."""
        import json

        values = self.model_dump(mode="json", include=self.model_fields_set)
        secrets = {name: getattr(self, name) for name in values}
        values |= {name: s.get_secret_value() for name, s in secrets.items() if isinstance(s, SecretStr)}
        prefix = f"NORIA_{self.SERVICE.upper()}_"
        return {
            prefix + name.upper(): value if isinstance(value, str) else json.dumps(value)
            for name, value in values.items()
            if value is not None
        }

    @classmethod
    def settings_customise_sources(
        cls,
        settings_cls: type[BaseSettings],
        init_settings: PydanticBaseSettingsSource,
        env_settings: PydanticBaseSettingsSource,
        dotenv_settings: PydanticBaseSettingsSource,
        file_secret_settings: PydanticBaseSettingsSource,
    ) -> tuple[PydanticBaseSettingsSource, ...]:
        """Arguments, then the environment, then `.env`; within each the service's own name first."""
        prefixes = [f"NORIA_{cls.SERVICE.upper()}_", "NORIA_"]
        environment = [EnvSettingsSource(settings_cls, env_prefix=p) for p in prefixes]
        dotenv = [DotEnvSettingsSource(settings_cls, env_file=".env", env_prefix=p) for p in prefixes]
        return (init_settings, *environment, *dotenv)


def service_settings(service: str, settings: type[Settings] = Settings) -> Settings:
    """Settings of a service by its name, for tools that know no service's own class."""
    return type(f"{service.title()}Settings", (settings,), {"SERVICE": service, "__module__": __name__})()
