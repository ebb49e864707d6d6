"""What should be served, in both databases: promotions, the base, retirement, pages."""

import json
from collections.abc import Iterator
from datetime import UTC, datetime, timedelta
from pathlib import Path
from typing import Any

import pytest
from sqlmodel import Session

from contracts.envelope import Meta
from contracts.events.registry import ModelPromotedV1, ProjectDefinedV1
from contracts.events.serving import DeploymentChangedV1, InferenceCompletedV1
from contracts.project import ProjectSpec, Prompt, Serve
from contracts.types import ModelRef
from services.chassis.storage.database import open_engine, writing
from services.chassis.storage.migration import migrate
from services.serving import prompts
from services.serving.domain.reconcile import Outcome
from services.serving.domain.served_version import kept_of_all, with_bases
from services.serving.handlers import on_inference_completed, on_model_promoted, on_project_defined
from services.serving.settings import ServingSettings
from services.serving.store import SqlStore

ROOT = Path(__file__).parents[3]
START = datetime(2026, 1, 31, 12, tzinfo=UTC)
EXAMPLE = json.loads((ROOT / "contracts" / "examples" / "registry.model.promoted.v1.json").read_text())["data"]


@pytest.fixture
def store(database_url: str, tmp_path: Path) -> Iterator[SqlStore]:
    engine = open_engine(ServingSettings(home=tmp_path, database=database_url))
    migrate(engine, "serving", ROOT / "services" / "serving" / "migrations")
    with writing(engine) as connection, Session(connection) as session:
        yield SqlStore(session)
    engine.dispose()


def meta(minute: int = 0) -> Meta:
    return Meta(id="e", source="/noria/registry", type="t", time=START + timedelta(minutes=minute))


def promote(store: SqlStore, version: int, promotion: int, project: str = "shop", minute: int = 0) -> None:
    event = ModelPromotedV1.model_validate(EXAMPLE)
    named = {"project": project, "model": ModelRef(name=project, version=version), "promotion": promotion}
    if version == 0:
        named |= {"files": {}, "project_revision": "a" * 64, "spec": None}
    on_model_promoted(event.model_copy(update=named), meta(minute), store)


def define(store: SqlStore, project: str = "shop", retired_after: int | None = None, minute: int = 0) -> list[object]:
    spec = ProjectSpec(project=project, base="b", prompt=Prompt(system="Be brief."))
    event = ProjectDefinedV1(project=project, revision="a" * 64, spec=spec, retired_after=retired_after)
    return list(on_project_defined(event, meta(minute), store))


def ended(store: SqlStore, version: int, sequence: int, status: Outcome) -> bool:
    return store.set_status(ModelRef(name="shop", version=version), sequence, status, "", START)


def live(store: SqlStore) -> list[int]:
    return [v.deployment.version for v in store.live_versions()]


def test_a_promoted_base_is_served_with_the_projects_prompt(store: SqlStore) -> None:
    define(store)
    promote(store, 1, 1)
    ended(store, 1, 1, "deployed")
    promote(store, 0, 2)
    ended(store, 0, 2, "deployed")
    versions = with_bases(kept_of_all(store.live_versions(), 3))
    assert [v.key for v in versions] == [("shop", 0), ("shop", 1)]
    base = versions[0]
    assert (base.files, base.prompt) == ({}, Prompt(system="Be brief."))
    assert base.deployment.answered == 2


def test_a_retired_project_is_served_no_more_and_its_promotions_are_told(store: SqlStore) -> None:
    define(store)
    for version in (1, 2):
        promote(store, version, version)
        ended(store, version, version, "deployed")
    before = store.change_number()
    events = define(store, retired_after=2, minute=1)
    assert live(store) == []
    assert store.change_number() != before
    assert [(e.model.version, e.status, e.promotion) for e in events if isinstance(e, DeploymentChangedV1)] == [
        (1, "removed", 1),
        (2, "removed", 2),
    ]
    assert store.projects.is_retired("shop")
    assert not ended(store, 2, 2, "deployed"), "a deployer that was in the middle of it must not undo the retirement"
    define(store, minute=2)
    assert not store.projects.is_retired("shop")


@pytest.mark.parametrize("promoted_first", [True, False])
def test_a_promotion_after_the_retirement_is_served_whichever_comes_first(
    store: SqlStore, promoted_first: bool
) -> None:
    define(store)
    promote(store, 1, 1)
    ended(store, 1, 1, "deployed")
    if promoted_first:
        promote(store, 1, 2)
    define(store, retired_after=1, minute=1)
    if not promoted_first:
        promote(store, 1, 2)
    assert live(store) == [1]
    assert ended(store, 1, 2, "deployed")


def test_what_no_one_serves_is_not_read_by_the_deployer(store: SqlStore) -> None:
    define(store)
    for version in range(1, 6):
        promote(store, version, version)
        ended(store, version, version, "removed" if version < 4 else "deployed")
    assert live(store) == [4, 5]


def test_deployments_come_in_pages_the_last_promoted_first(store: SqlStore) -> None:
    for minute, (project, version) in enumerate([("shop", 1), ("other", 1), ("shop", 2), ("more", 7)]):
        promote(store, version, version, project, minute // 2)
    everything = store.deployments(None, 10)
    assert [v.key for v in everything] == [("shop", 2), ("more", 7), ("shop", 1), ("other", 1)]
    place = (everything[1].promoted_at, *everything[1].key)
    assert store.deployments(None, 10, place) == everything[2:]
    assert [v.key for v in store.deployments({"other", "shop"}, 2)] == [("shop", 2), ("shop", 1)]
    assert [v.key for v in store.deployments({"other", "shop"}, 2, (everything[2].promoted_at, "shop", 1))] == [
        ("other", 1)
    ]
    assert store.deployments(set(), 10) == []


def test_projects_are_known_by_name_however_many_revisions_they_have(store: SqlStore) -> None:
    for project in ("b", "a", "c"):
        for n in range(3):
            spec = ProjectSpec(project=project, base=str(n))
            store.projects.remember(ProjectDefinedV1(project=project, revision=str(n) * 64, spec=spec), START)
    assert store.projects.names() == ["a", "b", "c"]


@pytest.mark.parametrize(
    ("first", "then", "noted"),
    [
        ("deployed", "deployed", False),
        ("deployed", "failed", False),
        ("deployed", "removed", True),
        ("failed", "failed", False),
        ("failed", "deployed", True),
        ("failed", "removed", True),
        ("removed", "deployed", False),
        ("removed", "removed", False),
    ],
)
def test_what_one_instance_noted_of_a_promotion_another_neither_notes_again_nor_undoes(
    store: SqlStore, first: Outcome, then: Outcome, noted: bool
) -> None:
    define(store)
    promote(store, 1, 1)
    assert ended(store, 1, 1, first)
    assert ended(store, 1, 1, then) == noted
    assert [v.deployment.status for v in store.deployments(None, 9)] == [then if noted else first]


def test_prompts_are_kept_by_their_number_and_the_oldest_go(store: SqlStore, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(prompts, "KEPT", 2)
    for number in (1, 2, 3, 2):
        spec = ProjectSpec(project="shop", base="b", prompt=Prompt(system=f"Prompt {number}."))
        event = ProjectDefinedV1(project="shop", revision=str(number) * 64, spec=spec, prompt_version=number)
        on_project_defined(event, meta(), store)
    assert store.prompt_numbers("shop") == [2, 3]
    assert store.prompt("shop", 3) == Prompt(system="Prompt 3.")
    assert (store.prompt("shop", 1), store.prompt("other", 3)) == (None, None)
    define(store)  # an older registry gives no number
    assert store.prompt_numbers("shop") == [2, 3]


def test_a_version_is_served_under_the_prompt_of_its_promotion(store: SqlStore) -> None:
    define(store)
    event = ModelPromotedV1.model_validate(EXAMPLE)
    spec = ProjectSpec(project="shop", base="b", prompt=Prompt(system="Newer."))
    named = {"project": "shop", "project_revision": "b" * 64, "spec": spec, "prompt_version": 2, "weights_of": 1}
    promote(store, 1, 1)
    on_model_promoted(event.model_copy(update={**named, "model": ModelRef(name="shop", version=2)}), meta(), store)
    found = {v.deployment.version: (v.prompt and v.prompt.system, v.prompt_version) for v in store.live_versions()}
    assert found[2] == ("Newer.", 2)
    assert store.prompt("shop", 2) == Prompt(system="Newer.")


GOLDEN = json.loads((ROOT / "contracts" / "examples" / "serving.inference.completed.v1.teacher.json").read_text())[
    "data"
]


def answer(store: SqlStore, name: str, minute: int = 0, **changes: Any) -> None:
    event = InferenceCompletedV1.model_validate(GOLDEN | {"project": "shop", "request_id": name, **changes})
    on_inference_completed(event, meta(minute), store)


def test_what_was_spent_on_a_day_is_that_of_its_answers(store: SqlStore) -> None:
    teacher = GOLDEN["teacher"]
    answer(store, "a", teacher=teacher | {"cost": 1.0})
    answer(store, "a", teacher=teacher | {"cost": 1.0})  # comes again behind the inbox's horizon
    answer(store, "b", 719, teacher=teacher | {"cost": 2.0})
    answer(store, "late", 720, teacher=teacher | {"cost": 4.0})  # 1 February, 00:00
    answer(store, "other", teacher=teacher | {"cost": 8.0}, project="bank")
    answer(store, "own", teacher=None)
    day = START.date()
    assert store.spent("shop", day, ()) == (3.0, set())
    assert store.spent("shop", day, ["b", "nobody", "late"]) == (3.0, {"b", "late"})
    assert store.spent("shop", day + timedelta(days=1), ()) == (4.0, set())
    assert store.spent("nobody", day, ()) == (0.0, set())


def test_answers_are_counted_by_who_gave_them(store: SqlStore) -> None:
    model = {"name": "shop", "version": 2}
    for n, seconds in enumerate((3.0, 1.0, 2.0)):
        answer(store, f"own-{n}", n, teacher=None, model=model, seconds=seconds, time_to_first_token=None)
    answer(store, "failed", teacher=None, model=model, seconds=99.0, status="error")
    answer(store, "base", teacher=None, model=model | {"version": 0})
    answer(store, "theirs", seconds=5.0, time_to_first_token=0.5)
    answer(store, "before", -60, teacher=None, model=model)
    found = store.answered("shop", START - timedelta(minutes=1))
    own, *rest = found
    assert [each.by for each in rest] == ["large-1 (api.example.com)", "shop@base"]
    assert (own.by, own.teacher, own.answers, own.failed, own.cost) == ("shop@2", False, 4, 1, None)
    assert (own.seconds, own.first_tokens, own.completion_tokens) == ([1.0, 2.0, 3.0], [], 32)
    assert (rest[0].teacher, rest[0].currency, rest[0].seconds, rest[0].first_tokens) == (True, "USD", [5.0], [0.5])
    assert rest[0].cost == pytest.approx(0.0000107)


def test_projects_with_a_teacher_are_told_whether_promoted_or_not(store: SqlStore) -> None:
    define(store)
    assert store.taught() == []
    serve = Serve.model_validate({"teacher": {"url": "https://api.example.com/v1", "model": "large-1"}})
    for project, retired in (("shop", None), ("gone", 1)):
        spec = ProjectSpec(project=project, base="b", serve=serve)
        event = ProjectDefinedV1(project=project, revision="b" * 64, spec=spec, retired_after=retired)
        on_project_defined(event, meta(1), store)
    assert [each.spec.project for each in store.taught()] == ["shop"]
