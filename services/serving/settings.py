"""Serving's settings: environment NORIA_SERVING_..., NORIA_... ."""

from pydantic import Field

from services.chassis.settings import Settings


class ServingSettings(Settings):
    """Where the gateway listens, where Triton is, and what is let in."""

    SERVICE = "serving"

    port: int = 8080
    triton_host: str = "127.0.0.1"
    triton_grpc_port: int = 8001
    keep_versions: int = 3
    """Promoted versions of a project that stay loaded: `name@version` answers and a rollback is instant."""
    serve_base: bool = True
    """Whether `name@base` answers with the untouched base model."""
    max_loras: int = 8
    """Adapters that one batch may mix (vLLM's max_loras)."""
    max_lora_rank: int = 64
    max_sequences: int = 8
    """Requests that Triton runs in one batch (vLLM's max_num_seqs)."""
    max_model_length: int = 0
    """Tokens of prompt and answer together; 0 takes the base's own limit."""
    max_body_bytes: int = Field(default=524_288, ge=1)
    """Longer requests get 413; an event must hold request and answer, and Kafka takes 1 MB."""
    max_in_flight: int = 256
    """Requests at work at once; more get 503."""
    check_seconds: float = 5.0
    """Between two looks at whether Triton lives and holds what it should."""
    load_seconds: float = 300.0
    probe_seconds: float = 60.0
    """Within which a new version must have answered one token."""
    suspect_seconds: float = 10.0
    """Without a token for so long a running answer makes the deployer probe its model."""
    silence_seconds: float = 120.0
    """Without a token for so long an answer is given up: a killed model process leaves its streams silent."""
    spool_bytes: int = 2_000_000_000
    """Requests are refused while more than this waits for Kafka."""
