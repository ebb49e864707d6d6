"""What the trainer produces."""

from typing import ClassVar, Literal

from pydantic import Field

from contracts.envelope import Event
from contracts.project import ProjectSpec
from contracts.types import ArtifactRef, BaseRef, DatasetRef, Files, ModelRef, ProjectName, Sha256, Value


class RunProgressedV1(Event):
    """Where a training run stands; at most one a second a run."""

    TOPIC: ClassVar[str] = "trainer.run.progressed.v1"

    project: ProjectName
    run_id: str
    step: int
    total_steps: int
    epoch: float
    loss: float | None = None
    validation_loss: float | None = None
    learning_rate: float
    tokens: int = Field(description="Non-padding tokens seen so far")
    tokens_per_second: float
    eta_seconds: float
    method: str | None = Field(default=None, description="Of the stage under way: sft, dpo, kto or orpo")
    preference: dict[str, float] | None = Field(
        default=None,
        description="Of dpo, kto and orpo, means since the epoch began: rewards_chosen, rewards_rejected, margin, accuracy, ...",
    )


class Reference(Value):
    """What a stage of preference tuning kept near to."""

    method: str = Field(description="Of the stage: dpo or kto")
    of: str = Field(description="champion, base, or the method of the stage before, whose outcome it is")
    model: ModelRef | None = Field(default=None, description="The champion")
    weights: Sha256 = Field(description="Digest of its weights; of the base, that of its files")
    rows: int = Field(ge=1)
    log_probabilities: ArtifactRef = Field(
        description="Of the rows under it (safetensors); later runs take them from there"
    )


class RunFailedV1(Event):
    """A training run ended without a model."""

    TOPIC: ClassVar[str] = "trainer.run.failed.v1"

    project: ProjectName
    run_id: str
    dataset: DatasetRef
    cause: str = Field(
        description="out_of_memory, loss_not_finite, base_not_found, empty_dataset, cancelled, superseded, ..."
    )
    detail: str
    successor: str | None = Field(
        default=None, description="The run that takes its place: it had not begun when that one's newer dataset came"
    )


class ModelTrainedV1(Event):
    """A training run ended with a model."""

    TOPIC: ClassVar[str] = "trainer.model.trained.v1"

    project: ProjectName
    project_revision: Sha256
    run_id: str
    dataset: DatasetRef
    base: BaseRef
    kind: Literal["lora", "full"]
    files: Files = Field(description="Weights as safetensors, configuration, tokenizer, manifest.json")
    weights: Sha256 = Field(description="Digest of the weights' file or files")
    code: Sha256 = Field(description="Digest of the training code")
    environment: Sha256 = Field(description="Digest of the installed packages")
    figures: dict[str, float] = Field(
        description="train_loss, validation_loss, tokens, seconds, tokens_per_second, steps; of preferences accuracy, margin, ..."
    )
    left_out: dict[str, int] = Field(
        default_factory=dict[str, int],
        description="Records of the training split that nothing was learnt of, by reason",
    )
    references: tuple[Reference, ...] = Field(
        default=(), description="What the stages of preference tuning kept near to, in their order"
    )
    spec: ProjectSpec | None = Field(
        default=None, description="What project_revision says: whoever never saw that definition needs no other event"
    )
