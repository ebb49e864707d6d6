"""Serving's settings: environment NORIA_SERVING_..., NORIA_... ."""

from pathlib import Path
from typing import Literal

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
    dtype: Literal["auto", "float32", "bfloat16", "float16"] = "auto"
    """The format that bases are computed in (vLLM's dtype); auto: bfloat16 where the processor multiplies it, else float32."""
    max_sequences: int = 32
    """The most requests that Triton runs in one batch (vLLM's max_num_seqs); fewer where memory is short."""
    max_model_length: int = 0
    """Tokens of prompt and answer together; 0 takes the base's own limit."""
    max_body_bytes: int = Field(default=524_288, ge=1)
    """Longer requests get 413; an event must hold request and answer, and Kafka takes 1 MB."""
    embeddings: bool = True
    """Whether the packaged embedder answers at /v1/embeddings; Triton loads it with the first request."""
    teacher_hosts: str = ""
    """Hosts that a project's serve.teacher may name, with commas between them; over https, unless one begins with http://."""
    teacher_in_flight: int = Field(default=64, ge=1)
    """Requests of a project that its teacher answers at once; more wait for their turn."""
    secrets: Path | None = None
    """Folder whose files hold the secrets that project files name; else the environment's NORIA_SECRET_<NAME> do."""
    answer_days: float = Field(default=30.0, gt=0)
    """For so long the figures of each answer are kept, for `noria report` and for the teacher's budget of the day."""
    cors_origins: str = ""
    """Origins whose pages a browser may let call the gateway, with commas between them; `*` is all, empty none."""
    max_in_flight: int = Field(default=512, ge=1)
    """Requests that wait or run at once; more get 503. One key of one project may hold as many as are still free."""
    share_of_rows: float = Field(default=0.5, gt=0, le=1)
    """Of a model's rows, that one key of one project has at most while others asked within the last minute."""
    template_seconds: float = Field(default=5.0, gt=0)
    """That a chat template may take for one conversation; then the request is refused."""
    check_seconds: float = 5.0
    """Between two looks at whether Triton lives and holds what it should."""
    load_seconds: float = 300.0
    probe_seconds: float = 60.0
    """Within which a new version must have answered one token."""
    status_seconds: float = Field(default=4.0, gt=0)
    """A model whose process does not say within this time how far it is, is dead."""
    stall_seconds: float = Field(default=60.0, gt=0)
    """A model with requests at work and no step forward for so long is dead."""
    waiting_seconds: float = Field(default=120.0, gt=0)
    """So long a request may wait for its turn where its estimate was wrong; then it gets 503."""
    first_token_seconds: float = Field(default=300.0, gt=0)
    """From its turn to its first token, the reading of its prompt included; then an answer is given up."""
    suspect_seconds: float = 10.0
    """Without a token for so long a running answer makes the deployer look at its model."""
    silence_seconds: float = Field(default=120.0, gt=0)
    """Between two tokens; then an answer is given up: a killed model process leaves its streams silent."""
    answer_seconds: float = Field(default=3600.0, gt=0)
    """From the request to the end of its answer; then it is cut."""
    reader_seconds: float = Field(default=30.0, gt=0)
    """A client that takes nothing of its stream for so long is cut, and its row is free."""
    drain_seconds: float = Field(default=60.0, ge=0)
    """A gateway that is told to end says that it is not ready and lets running answers end for so long."""
    metrics_values: int = Field(default=100, ge=0)
    """Projects, and API keys, that metrics tell apart; further ones count as `other`."""
    spool_bytes: int = 2_000_000_000
    """Requests are refused while more than this waits for Kafka."""
