"""What a run needs to go on as if it had never stopped: trained weights, optimiser, random state, counters. Never a pickle.

A checkpoint is a directory `checkpoint-<step>` of two files, written aside and renamed; the newest one counts. With the
best epoch's weights and the reference's log-probabilities, which it may name, it goes into the artifact store too, from where
another machine takes it over.
"""

import json
import shutil
import tempfile
from dataclasses import asdict, dataclass, field
from pathlib import Path
from typing import Any

import torch
from safetensors import SafetensorError
from safetensors.torch import load_file, save_file
from torch import Tensor, nn

from services.chassis.jobs import checkpoints
from services.chassis.storage.artifacts import ArtifactStore
from services.lm.files import publish, sha256_file

STATE, TENSORS = "state.json", "tensors.safetensors"


@dataclass(slots=True)
class State:
    """Counters of a run; `identity` is a digest of all that decides the weights."""

    identity: str
    step: int = 0
    tokens: int = 0
    train_losses: list[float] = field(default_factory=list[float])
    """Mean loss per target of each finished epoch."""
    validation_losses: list[float] = field(default_factory=list[float])
    best_step: int | None = None
    best_loss: float | None = None
    epoch_loss: float = 0.0
    """Sum of losses since the epoch began."""
    epoch_targets: float = 0
    """Targets since then; of preferences, units."""
    epoch_figures: dict[str, tuple[float, float]] = field(default_factory=dict[str, tuple[float, float]])
    """Sum and count since then of what preferences are told by."""
    train_figures: dict[str, float] = field(default_factory=dict[str, float])
    """Their means over the last finished epoch."""
    best_figures: dict[str, float] = field(default_factory=dict[str, float])
    """The validation's at `best_step`."""
    stage: int = 0
    """Which of the recipe's methods is under way."""
    began: int = 0
    """The step after which the stage began."""
    ended: list[dict[str, Any]] = field(default_factory=list[dict[str, Any]])
    """What came of each stage before."""
    reference: str | None = None
    """The file of the reference's log-probabilities that the stage needs, in the job's folder."""
    references: list[dict[str, Any]] = field(default_factory=list[dict[str, Any]])
    """Of all stages so far: method, what it is, file, rows and identity."""
    seconds: float = 0.0
    """Time in training so far, over all attempts."""
    computed: list[dict[str, Any]] = field(default_factory=list[dict[str, Any]])
    """Device, dtype, threads and platform of each machine that took a turn; one after the other differs."""

    @property
    def stage_step(self) -> int:
        """Steps of the stage."""
        return self.step - self.began


def save(workdir: Path, state: State, weights: dict[str, nn.Parameter], optimizer: torch.optim.Optimizer) -> None:
    """Publish a checkpoint and remove the older ones, and the best weights that they named."""
    final = workdir / f"checkpoint-{state.step:09d}"
    if not final.exists():
        aside = Path(tempfile.mkdtemp(dir=workdir, prefix="aside-"))
        save_file(_tensors(weights, optimizer), aside / TENSORS, {"identity": state.identity})
        (aside / STATE).write_text(json.dumps(asdict(state)))
        publish(aside, final)
    for old in _all(workdir)[:-1]:
        shutil.rmtree(old)
    for file in workdir.glob("best-*.safetensors"):
        if file != best_file(workdir, state.best_step):
            file.unlink()


def load(workdir: Path, identity: str, weights: dict[str, nn.Parameter], optimizer: torch.optim.Optimizer) -> State:
    """The newest checkpoint of the same identity put into `weights` and `optimizer`; a new state where there is none."""
    for aside in workdir.glob("aside-*"):
        shutil.rmtree(aside)
    for directory in reversed(_all(workdir)):
        try:
            state = State(**json.loads((directory / STATE).read_text()))
            tensors = load_file(directory / TENSORS)
        except (OSError, ValueError, TypeError, SafetensorError):
            continue  # damaged by a failing disk: an older one or the beginning is still right
        if state.identity == identity and _has_all(workdir, state):
            _restore(tensors, weights, optimizer)
            return state
    return State(identity=identity)


def files(workdir: Path, state: State) -> dict[str, Path]:
    """What another machine needs to go on from `state`, which `save` has published, by name below the job's folder."""
    final = workdir / f"checkpoint-{state.step:09d}"
    found = [final / TENSORS, final / STATE, *([best_file(workdir, state.best_step)] if state.best_step else [])]
    found += [workdir / reference["file"] for reference in state.references]
    return {path.relative_to(workdir).as_posix(): path for path in found}


def take_over(workdir: Path, artifacts: ArtifactStore) -> None:
    """Put the job's newest checkpoint of the artifact store beside those of this machine, where it is further.

    Raises:
        ArtifactUnavailable: the store does not answer.
    """
    local = max((int(path.name.rpartition("-")[2]) for path in _all(workdir)), default=0)
    fetched = checkpoints.fetch(workdir, artifacts, beyond=local)
    if fetched is None:
        return
    for file in [*fetched.glob("best-*.safetensors"), *fetched.glob("reference-*.safetensors")]:
        file.replace(workdir / file.name)
    for directory in _all(fetched):  # last: what it names is there by now
        directory.rename(workdir / directory.name)
    shutil.rmtree(fetched)


def _has_all(workdir: Path, state: State) -> bool:
    for reference in state.references:
        file = workdir / reference["file"]
        if not file.is_file() or sha256_file(file) != reference["log_probabilities"]:
            return False
    return state.best_step is None or state.best_step == state.step or best_file(workdir, state.best_step).is_file()


def best_file(workdir: Path, step: int | None) -> Path:
    """Where the weights of the best epoch lie."""
    return workdir / f"best-{step or 0:09d}.safetensors"


def save_best(workdir: Path, step: int, weights: dict[str, nn.Parameter]) -> None:
    """Keep the weights after `step` as the best so far."""
    final = best_file(workdir, step)
    aside = final.with_suffix(".aside")
    save_file({name: parameter.detach().contiguous() for name, parameter in weights.items()}, aside)
    aside.replace(final)


def load_best(workdir: Path, step: int, weights: dict[str, nn.Parameter]) -> None:
    """Put the weights kept after `step` into `weights`."""
    tensors = load_file(best_file(workdir, step))
    with torch.no_grad():
        for name, parameter in weights.items():
            parameter.copy_(tensors[name])


def _all(workdir: Path) -> list[Path]:
    return sorted(workdir.glob("checkpoint-*"))


def _tensors(weights: dict[str, nn.Parameter], optimizer: torch.optim.Optimizer) -> dict[str, Tensor]:
    tensors = {f"weight/{name}": parameter.detach().contiguous() for name, parameter in weights.items()}
    for name, parameter in weights.items():
        for key, value in optimizer.state.get(parameter, {}).items():
            tensors[f"optimizer/{key}/{name}"] = torch.as_tensor(value).contiguous()
    tensors["random/cpu"] = torch.get_rng_state()
    if torch.cuda.is_available():
        tensors["random/cuda"] = torch.cuda.get_rng_state()
    return tensors


def _restore(tensors: dict[str, Tensor], weights: dict[str, nn.Parameter], optimizer: torch.optim.Optimizer) -> None:
    with torch.no_grad():
        for name, parameter in weights.items():
            parameter.copy_(tensors[f"weight/{name}"])
            kept: dict[str, Any] = {}
            for key in ("step", "exp_avg", "exp_avg_sq"):
                if (value := tensors.get(f"optimizer/{key}/{name}")) is not None:
                    kept[key] = value.to(parameter.device)
            optimizer.state[parameter] = kept
    torch.set_rng_state(tensors["random/cpu"])
    if "random/cuda" in tensors and torch.cuda.is_available():
        torch.cuda.set_rng_state(tensors["random/cuda"])
