"""What a run is given, what it tells on the way and what it ends with; plain values, no tensors."""

import math
from dataclasses import asdict, dataclass, field
from pathlib import Path
from typing import Any

from contracts.project import Prompt, Train


@dataclass(frozen=True, slots=True)
class Champion:
    """The version in production, from which a preference stage goes on; its files are local."""

    name: str
    """As people name it: 'support@3'."""
    directory: Path
    kind: str
    """'lora' or 'full'."""
    weights: str
    """Digest of its weights' files."""


@dataclass(frozen=True, slots=True)
class TrainSpec:
    """A run on local files: everything that decides the weights, and where things lie."""

    base: Path
    """A Hugging Face model directory with safetensors, tokenizer and chat template."""
    base_name: str
    train: Path
    """Parquet with the dataset's columns; only `format` and `record` are read."""
    validation: Path | None
    prompt: Prompt
    recipe: Train
    cache: Path
    """Where what belongs to this machine is kept: the measured dtype and threads."""
    identity: dict[str, str] = field(default_factory=dict[str, str])
    """Facts that only go into the manifest: dataset version, project revision, digests of the files."""
    checkpoint_seconds: float = 60.0
    champion: Champion | None = None
    """Where the first stage begins; None: at the base."""
    seconds: float = math.inf
    """So long its steps may take, over all attempts."""
    reference: Path | None = None
    """Log-probabilities of the champion, of the base without one, that an earlier run kept."""


@dataclass(frozen=True, slots=True)
class Progress:
    """Where a run stands; fields as in the event RunProgressedV1."""

    step: int
    total_steps: int
    epoch: float
    loss: float | None
    validation_loss: float | None
    learning_rate: float
    tokens: int
    """Tokens of the rows seen so far, each row's whole length counted, padding never."""
    tokens_per_second: float
    eta_seconds: float
    method: str = "sft"
    """Of the stage under way."""
    preference: dict[str, float] | None = None
    """Rewards, margin, accuracy and more of dpo, kto and orpo: means since the epoch began."""

    def as_dict(self) -> dict[str, Any]:
        """JSON object."""
        return asdict(self)


@dataclass(frozen=True, slots=True)
class Reference:
    """What a stage kept near to, and the file of its log-probabilities."""

    method: str
    of: str
    """'base', 'champion', or the method of the stage before."""
    weights: str
    """Digest of the reference's weights; of the base, that of its files."""
    file: Path
    rows: int


@dataclass(frozen=True, slots=True)
class TrainResult:
    """A finished run: where the files lie and its figures."""

    directory: Path
    kind: str
    """'lora' or 'full'."""
    weights: str
    """SHA-256 of the weights' file."""
    code: str
    environment: str
    figures: dict[str, float]
    left_out: dict[str, int] = field(default_factory=dict[str, int])
    """Records that nothing was learnt of, by reason (services/lm/learning.py, domain/preferences.py)."""
    references: tuple[Reference, ...] = ()
