"""The training recipe of a project: adapter, methods, and what preference tuning is set by."""

from datetime import timedelta
from difflib import get_close_matches
from typing import Annotated, Any, Literal, cast

from pydantic import AfterValidator, Field, StringConstraints, ValidationInfo, model_validator

from contracts.sections import APPLYING, Duration, Section

METHODS = ("sft", "dpo", "kto", "orpo")
"""SFT: supervised fine-tuning. DPO: Rafailov et al. 2023, arXiv:2305.18290. KTO: Ethayarajh et al. 2024, arXiv:2402.01306.
ORPO: Hong, Lee and Thorne 2024, arXiv:2403.07691."""


class Adapter(Section):
    """LoRA in PEFT's words (https://huggingface.co/docs/peft/package_reference/lora), or full fine-tuning."""

    kind: Literal["lora", "none"] = "lora"
    r: int = Field(default=16, ge=1, le=256)
    alpha: int | None = Field(default=None, ge=1, description="lora_alpha; 2 r where absent")
    dropout: float = Field(default=0.0, ge=0, lt=1)
    target_modules: Literal["all-linear"] | tuple[str, ...] = "all-linear"
    layers_to_transform: tuple[int, ...] | None = None


Learn = Literal["all", "last"]
"""Whose turns of a conversation are learnt: all of the assistant's, or its last one alone."""


class PreferenceTuning(Section):
    """What the stages dpo, kto and orpo are set by.

    Label smoothing: Mitchell 2023 (https://ericmitchell.ai/cdpo.pdf); robust: Chowdhury et al. 2024, arXiv:2403.00409; ld_alpha:
    Liu et al. 2024 (LD-DPO), arXiv:2409.06411.
    """

    learning_rate: float = Field(default=1e-5, gt=0, le=10, description="Suits LoRA; full weights want a tenth of it")
    epochs: float = Field(default=1.0, gt=0, le=1000)
    beta: float = Field(
        default=0.1, gt=0, le=100, description="dpo and kto: how dear it is to leave the reference; orpo: lambda"
    )
    loss: Literal["sigmoid", "robust"] = Field(
        default="sigmoid",
        description="Of dpo; robust takes `label_smoothing` for the share of pairs that are the wrong way round",
    )
    label_smoothing: float = Field(default=0.0, ge=0, lt=0.5)
    ld_alpha: float | None = Field(
        default=None, ge=0, le=1, description="dpo: weight of the tokens by which one answer is longer; null: 1"
    )
    sft_weight: float = Field(
        default=0.0, ge=0, le=100, description="dpo: weight of the chosen answers' loss as of sft, the anchor"
    )
    replay: float = Field(
        default=0.2, ge=0, le=0.9, description="Share of the rows that are those of sft, where the dataset has any"
    )
    min_distance: float = Field(
        default=0.1,
        ge=0,
        le=1,
        description="Pairs whose answers are nearer (edits by the longer one's tokens) are rows of sft: the chosen answer",
    )
    desirable_weight: float | None = Field(default=None, gt=0, le=1000, description="kto; null: by the labels' balance")
    undesirable_weight: float | None = Field(
        default=None, gt=0, le=1000, description="kto; null: by the labels' balance"
    )


class Budget(Section):
    """What a run may spend over all of its stages and attempts; the first that is spent ends it."""

    tokens: int | None = Field(
        default=None,
        ge=1,
        description="Of the rows that are learnt. Known before the first step: the schedule fits into it",
    )
    time: Duration | None = Field(
        default=None,
        gt=timedelta(0),
        description="Of the steps. A run that it ends leaves the best epoch's model until then",
    )
    money: float | None = Field(
        default=None, gt=0, description="Of that time, at NORIA_TRAINER_PRICE_PER_HOUR and in its currency"
    )


def _known(method: str, info: ValidationInfo) -> str:
    """Only who applies a project is told: to whoever reads an event it may be a method that comes later."""
    if info.context == APPLYING:
        check_method(method)
    return method


def check_method(method: str) -> None:
    """Refuses a method that there is not.

    Raises:
        ValueError: with the nearest name.
    """
    if method not in METHODS:
        near = get_close_matches(method, METHODS, n=1, cutoff=0.5)
        meant = f"did you mean {near[0]}?" if near else f"there are {', '.join(METHODS)}"
        raise ValueError(f"no method is called {method[:40]!r}; {meant}")


Method = Annotated[str, StringConstraints(pattern=r"^[a-z][a-z0-9_]{0,29}$"), AfterValidator(_known)]


def _none(stages: tuple[str, ...]) -> bool:
    return not stages


def _unlimited(budget: Budget) -> bool:
    return budget == Budget()


def _usual(preference: PreferenceTuning) -> bool:
    return preference == PreferenceTuning()


class Train(Section):
    """The training recipe; names as in transformers' TrainingArguments where they exist.

    A file may say `method: dpo`. It is kept as `stages: [dpo]`, since consumers of before stages know no method but sft.
    """

    method: Literal["sft"] = Field(default="sft", description="In a file the short form of one stage; kept as stages")
    stages: tuple[Method, ...] = Field(
        default=(), max_length=4, exclude_if=_none, description="Methods one after the other; none: sft alone"
    )
    adapter: Adapter = Adapter()
    learn: Learn = Field(
        default="all", description="Assistant turns of a conversation that are learnt: all, or the last"
    )
    epochs: float = Field(default=3.0, gt=0, le=1000)
    max_steps: int | None = Field(default=None, ge=1, description="Of each stage")
    learning_rate: float = Field(default=1e-3, gt=0, le=10)
    lr_scheduler: Literal["linear", "cosine", "constant"] = "linear"
    warmup_ratio: float = Field(default=0.03, ge=0, lt=1)
    weight_decay: float = Field(default=0.0, ge=0)
    batch_size: int = Field(default=8, ge=1, le=4096, description="Examples a step")
    max_length: int = Field(default=512, ge=8, le=1_000_000, description="Tokens an example; longer ones are cut")
    seed: int = Field(default=7, ge=0, lt=2**32)
    preference: PreferenceTuning = Field(default=PreferenceTuning(), exclude_if=_usual)
    budget: Budget = Field(default=Budget(), exclude_if=_unlimited)

    @model_validator(mode="before")
    @classmethod
    def _method_as_stages(cls, raw: Any, info: ValidationInfo) -> Any:
        given = cast(dict[str, Any], raw) if isinstance(raw, dict) else {}
        method, stages = given.get("method"), given.get("stages")
        if stages is not None and not isinstance(stages, list | tuple):
            return raw
        named: tuple[Any, ...] = tuple(cast(list[Any], stages or ()))
        if isinstance(method, str) and method != "sft":
            check_method(method)
            if named and named != (method,):
                raise ValueError(f"method is {method!r} and stages are {list(named)}; give one of the two")
            named = (method,)
        if not named and method in (None, "sft"):
            return raw
        return {**given, "method": "sft", "stages": () if named == ("sft",) else named}

    @model_validator(mode="after")
    def _stages_fit(self, info: ValidationInfo) -> "Train":
        if len(set(self.stages)) < len(self.stages):
            raise ValueError("stages name a method twice; name each once")
        if "kto" in self.stages and self.batch_size < 2:
            raise ValueError("kto estimates from the other examples of a step; give a batch_size of at least 2")
        if info.context == APPLYING and "sft" not in self.methods:
            usual = type(self).model_fields
            for name in ("learning_rate", "epochs"):
                if getattr(self, name) != usual[name].default:
                    raise ValueError(f"{name} is of the stage sft; give preference.{name} for {self.methods[0]}")
        return self

    @property
    def methods(self) -> tuple[str, ...]:
        """What the stages of a run are."""
        return self.stages or ("sft",)
