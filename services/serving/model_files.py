"""Brings a version's files from the artifact store to where Triton reads them. Talks to no Triton.

Under <home>/models: bases/<digest>, templates/<digest>, {adapters,full}/<project>/<version>/<fingerprint>.
"""

from contextlib import suppress
from dataclasses import dataclass
from pathlib import Path

from contracts.project import Prompt, Serve
from contracts.types import BaseRef
from services.chassis.storage.artifacts import ArtifactStore
from services.lm.base_files import fingerprint, read_length
from services.lm.errors import TemplateRefused
from services.lm.template import TEMPLATE_FILES, ChatTemplate
from services.serving.domain.reconcile import TritonTarget, triton_target
from services.serving.domain.routing import Target
from services.serving.domain.served_version import ServedVersion
from services.serving.settings import ServingSettings
from services.serving.templates import Templates


@dataclass(frozen=True, slots=True)
class MaterialisedVersion:
    """A version on the local disk. `weights` is the directory of a whole model, `adapter` that of a LoRA in it."""

    triton_target: TritonTarget
    weights: Path
    adapter: Path | None
    target: Target


def materialise(
    artifacts: ArtifactStore, settings: ServingSettings, templates: Templates, served: ServedVersion
) -> MaterialisedVersion:
    """The version's files, verified by their digests and laid out for Triton. Blocks; needs the project's definition.

    Raises:
        ArtifactError: a file is missing, corrupt or not allowed.
        OSError: the disk is full, say.
    """
    models = settings.home / "models"
    project, version = served.key
    own = own_folder(models, served.deployment.kind, project, version)
    base, _ = base_folders(models, served.base)
    where = triton_target(served.deployment)
    mark = fingerprint(served.files)
    files = artifacts.materialise(served.files, own / mark) if version else None
    whole = files is not None and where.adapter is None
    weights = files if files is not None and whole else artifacts.materialise(served.base.files, base)
    target = Target(
        model=served.deployment.model,
        triton_model=where.model,
        lora=where.adapter,
        fingerprint=mark if version else fingerprint(served.base.files),
        template=_template(templates, *filter(None, (files, _template_files(artifacts, models, served.base)))),
        model_length=read_length(weights, settings.max_model_length),
        prompt=served.prompt or Prompt(),
        serve=served.serve or Serve(),
        deployed_at=served.deployed_at or served.promoted_at,
        prompt_version=served.prompt_version,
    )
    return MaterialisedVersion(where, weights, None if whole else files, target)


def _template(templates: Templates, *directories: Path) -> ChatTemplate | None:
    """The chat template of the first directory that has one: a version's own, then its base's."""
    for directory in directories:
        with suppress(TemplateRefused):
            if (found := templates.read(directory)) is not None:
                return found
    return None


def _template_files(artifacts: ArtifactStore, models: Path, base: BaseRef) -> Path:
    """The base's template alone: a version that brings none speaks as its base does, and may not need its weights."""
    return artifacts.materialise(
        {n: r for n, r in base.files.items() if n in TEMPLATE_FILES}, base_folders(models, base)[1]
    )


def own_folder(models: Path, kind: str, project: str, version: int) -> Path:
    """Where a version's own files lie, each set of them under its fingerprint."""
    return models / ("full" if kind == "full" else "adapters") / project / str(version)


def base_folders(models: Path, base: BaseRef) -> tuple[Path, Path]:
    """Where a base's files lie, and its template alone."""
    return models / "bases" / base.digest[:16], models / "templates" / base.digest[:16]
