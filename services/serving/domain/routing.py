"""Which deployed model answers to which name: a table that is replaced whole, never changed. Knows no Triton."""

from collections.abc import Iterable, Mapping, Sequence
from dataclasses import dataclass, field
from datetime import datetime

from contracts.project import Prompt, Serve
from contracts.teacher import Teacher
from contracts.types import ModelRef
from services.lm.template import ChatTemplate
from services.serving.domain.errors import Invalid, ModelNotFound, Unavailable

EMBEDDER = "all-MiniLM-L6-v2"
"""The model that makes embeddings; no project can have its name, which has capitals."""
BASE = "base"
"""`project@base` and version 0 are the base model, untouched, with the project's prompt."""
TEACHER = "teacher"
"""`project@teacher` is somebody else's model, as the project file names it."""


@dataclass(frozen=True, slots=True)
class Target:
    """What answers to a name: a Triton model, the adapter in it, and how the project wants it asked."""

    model: ModelRef
    triton_model: str
    lora: str | None
    fingerprint: str
    template: ChatTemplate | None
    model_length: int
    """Tokens of prompt and answer together."""
    prompt: Prompt
    serve: Serve
    deployed_at: datetime
    prompt_version: int | None = None
    """The number of `prompt` in its project; None where nobody counted it, or none of the project's prompts stands there."""
    teacher: Teacher | None = None
    """Who is asked instead of Triton; `model` is version 0 then, and `triton_model` names only whose turn it is."""

    @property
    def name(self) -> str:
        """The exact name, `project@version`."""
        return exact_name(self.model) if self.teacher is None else f"{self.model.name}@{TEACHER}"

    @property
    def answerer(self) -> str:
        """The version as a header tells it: a number, or "teacher"."""
        return str(self.model.version) if self.teacher is None else TEACHER


@dataclass(frozen=True, slots=True)
class Routes:
    """Targets by exact name, and each project's production name.

    `projects` are all that are known, deployed or not; `retired` those of them that are out of service.
    """

    targets: Mapping[str, Target] = field(default_factory=dict[str, Target])
    production: Mapping[str, str] = field(default_factory=dict[str, str])
    projects: frozenset[str] = frozenset()
    retired: frozenset[str] = frozenset()
    awaited: Mapping[str, str | None] = field(default_factory=dict[str, str | None])
    """Projects whose base is not here yet, and why it is not to be had; None: it is being brought."""
    teachers: Mapping[str, Target] = field(default_factory=dict[str, Target])
    """By project."""

    def names(self) -> Sequence[str]:
        """All names that a request may give, aliases first."""
        bases = {project for project in self.projects if exact_name(ModelRef(name=project, version=0)) in self.targets}
        exact = sorted([*self.targets, *(teacher.name for teacher in self.teachers.values())])
        return (*sorted(self.production.keys() | bases | self.teachers.keys()), *exact)


def exact_name(model: ModelRef) -> str:
    """`project@2`; `project@base` for version 0."""
    return f"{model.name}@{model.version or BASE}"


def project_of(name: str) -> str:
    """The project that a request's `model` names."""
    return name.partition("@")[0]


def build(
    targets: Iterable[Target],
    production: Mapping[str, int],
    projects: Iterable[str],
    retired: Iterable[str] = (),
    awaited: Mapping[str, str | None] | None = None,
    teachers: Iterable[Target] = (),
) -> Routes:
    """The table of `targets`; a project's production version is routed only where it is among them."""
    by_name = {t.name: t for t in targets}
    wanted = {project: exact_name(ModelRef(name=project, version=v)) for project, v in production.items()}
    return Routes(
        by_name,
        {p: n for p, n in wanted.items() if n in by_name},
        frozenset(projects),
        frozenset(retired),
        awaited or {},
        {teacher.model.name: teacher for teacher in teachers},
    )


def resolve(routes: Routes, name: str) -> Target:
    """The target of a request's `model`: of a project's name its production version, else its base.

    Raises:
        Unavailable: its base is being brought, or is not to be had.
        ModelNotFound: saying whether the project, its version or any deployment of it is missing.
        Invalid: it is the model that makes embeddings.
    """
    if name == EMBEDDER:
        raise Invalid(f"{EMBEDDER} makes embeddings and no text; ask it at /v1/embeddings", "invalid_value", "model")
    project, version = project_of(name), name.partition("@")[2]
    exact = f"{project}@{BASE}" if version == "0" else name
    target = routes.targets.get(exact if version else routes.production.get(project, f"{project}@{BASE}"))
    if target is not None:
        return target
    if project not in routes.projects:
        raise ModelNotFound(f"The model {name!r} does not exist: no such project. See GET /v1/models.")
    if project in routes.retired:
        raise ModelNotFound(
            f"The project {project!r} was taken out of service: it answers again once its project file is applied or one"
            " of its versions promoted."
        )
    if project in routes.awaited and (not version or exact == f"{project}@{BASE}"):
        why = routes.awaited[project]
        if why is None:
            raise Unavailable(
                f"The base of {project!r} is being brought here; the request can be sent again soon.", "model_loading"
            )
        said = f"The project {project!r} has no deployed model yet, and its base cannot be served: {why}"
        raise Unavailable(said, "base_unavailable", 30)
    if not version:
        raise ModelNotFound(f"The project {project!r} has no deployed model yet; one is served once it is promoted.")
    raise ModelNotFound(f"The version {version!r} of {project!r} is not deployed. GET /v1/models lists those that are.")
