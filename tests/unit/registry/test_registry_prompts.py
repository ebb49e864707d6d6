"""A project's prompts have numbers, and a new one on weights that are there is a candidate."""

from collections.abc import Callable, Iterable
from datetime import datetime, timedelta
from pathlib import Path
from typing import Any

import pytest
from sqlalchemy import Engine
from sqlmodel import Session

from contracts.envelope import Event
from contracts.events.registry import (
    EvaluationRequestedV1,
    ModelPromotedV1,
    ModelRegisteredV1,
    ModelRejectedV1,
    ProjectDefinedV1,
)
from contracts.events.trainer import ModelTrainedV1
from services.chassis.http.application import ApiError
from services.chassis.replay.difference import differences
from services.chassis.storage.database import open_engine, writing
from services.chassis.storage.migration import migrate
from services.registry.domain.version import ModelVersion
from services.registry.handlers import HANDLERS, on_deployment_changed, on_model_scored, on_model_trained
from services.registry.projects import check_system_prompt, define, retire
from services.registry.restore import RESTORE
from services.registry.settings import RegistrySettings
from services.registry.store import SqlStore
from services.registry.transitions import Action, reject, rollback
from tests.unit.registry.builders import PROJECT, START, deployment, meta, scored, trained
from tests.unit.registry.conftest import MIGRATIONS

A, B = {"system": "Prompt A."}, {"system": "Prompt B."}


class World:
    """The registry with a clock; `said` are all events in their order, those of others too."""

    def __init__(self, store: SqlStore) -> None:
        self.store, self.now = store, START
        self.said: list[tuple[datetime, Event]] = []
        self.count = 0

    def note(self, events: Iterable[Event]) -> list[Event]:
        made = list(events)
        self.said += [(self.now, event) for event in made]
        return made

    def apply(self, prompt: dict[str, Any] | None, **sections: Any) -> list[Event]:
        self.now += timedelta(minutes=1)
        body: Any = {"project": PROJECT, "base": "smollm2-135m-instruct", **sections}
        return self.note(define(self.store, body | ({"prompt": prompt} if prompt else {}), self.now)[1])

    def take(self, event: Event, handler: Callable[..., Iterable[Event]]) -> list[Event]:
        self.now += timedelta(minutes=1)
        self.count += 1
        self.note([event])
        return self.note(handler(event, meta(f"event-{self.count}", self.now), self.store))

    def train(self, run_id: str, revision: str | None = None) -> list[Event]:
        at, spec = self.current() if revision is None else (revision, self.store.projects.at(PROJECT, revision))
        return self.take(trained(run_id, at).model_copy(update={"spec": spec}), on_model_trained)

    def score(self, run_id: str, chrf: float, champion: int = 0) -> list[Event]:
        version = self.store.of_run(run_id)
        assert version is not None
        event = scored(run_id, version.trained.project_revision, chrf, (champion, 18.0))
        if version.rounds:
            event = event.model_copy(update={"evaluation_id": f"eval-{run_id}-r{version.rounds}"})
        return self.take(event, on_model_scored)

    def current(self) -> tuple[str, Any]:
        known = self.store.projects.current(PROJECT)
        assert known is not None
        return known

    def version(self, number: int) -> ModelVersion:
        found = self.store.version(PROJECT, number)
        assert found is not None
        return found

    def stages(self) -> list[str]:
        return [v.stage for v in reversed(self.store.versions(PROJECT, 20))]


@pytest.fixture
def world(store: SqlStore) -> World:
    return World(store)


def served(world: World) -> World:
    """Weights under prompt A in production."""
    world.apply(A)
    world.train("run-1")
    world.score("run-1", 40.0)
    world.take(deployment(1, "deployed", promotion=1), on_deployment_changed)
    assert world.stages() == ["production"]
    return world


def of(kind: type[Event], events: Iterable[Event]) -> list[Any]:
    return [event for event in events if isinstance(event, kind)]


def test_each_distinct_prompt_has_a_number(world: World) -> None:
    numbers = [of(ProjectDefinedV1, world.apply(prompt))[0].prompt_version for prompt in (A, B, A, None)]
    assert numbers == [1, 2, 1, 3]
    assert of(ProjectDefinedV1, world.apply(None, serve={"max_tokens": 9}))[0].prompt_version == 3
    assert [p.number for p in world.store.prompts(PROJECT, 2)] == [3, 2]
    assert [p.number for p in world.store.prompts(PROJECT, 2, 2)] == [1]
    first = world.store.prompt(PROJECT, 1)
    assert first is not None
    assert (first.prompt.system, first.at) == ("Prompt A.", START + timedelta(minutes=1))


def test_a_new_prompt_on_served_weights_is_registered_and_measured_against_what_serves(world: World) -> None:
    defined, registered, requested = served(world).apply(B)
    assert isinstance(defined, ProjectDefinedV1)
    assert isinstance(registered, ModelRegisteredV1)
    assert isinstance(requested, EvaluationRequestedV1)
    assert (registered.model.version, registered.prompt_version, registered.weights_of) == (2, 2, 1)
    assert requested.evaluation_id == "eval-run-1-p2-r1"
    assert requested.champion is not None
    assert (requested.champion.model.version, requested.champion.prompt_version) == (1, 1)
    told, before = requested.candidate, world.version(1).trained
    assert told.spec is not None
    assert told.spec.prompt.system == "Prompt B."
    assert (told.files, told.weights, told.dataset) == (before.files, before.weights, before.dataset)
    assert told.project_revision == defined.revision != before.project_revision


def test_the_gate_promotes_it_and_a_rollback_brings_the_prompt_before_back(world: World) -> None:
    served(world).apply(B)
    (promotion,) = of(ModelPromotedV1, world.score("run-1-p2", 50.0, champion=1))
    assert (promotion.model.version, promotion.prompt_version, promotion.weights_of) == (2, 2, 1)
    assert promotion.spec.prompt.system == "Prompt B."
    assert world.stages() == ["archived", "production"]
    number, events = rollback(world.store, PROJECT, Action("a person", "", world.now))
    (back,) = of(ModelPromotedV1, events)
    assert (number, back.prompt_version, back.weights_of, back.spec.prompt.system) == (1, 1, None, "Prompt A.")


def test_the_gate_rejects_it_and_what_serves_goes_on(world: World) -> None:
    served(world).apply(B)
    assert of(ModelRejectedV1, world.score("run-1-p2", 10.0, champion=1))[0].by == "gate"
    assert world.stages() == ["production", "rejected"]


@pytest.mark.parametrize("further", [{"train": {"seed": 8}}, {"prep": {"held_out": 0.3}}, {"base": "other"}])
def test_a_prompt_that_changed_with_the_recipe_waits_for_its_training(world: World, further: dict[str, Any]) -> None:
    assert len(served(world).apply(B, **further)) == 1
    assert world.stages() == ["production"]


def test_nothing_but_the_prompt_makes_a_candidate(world: World) -> None:
    assert len(served(world).apply(A, serve={"max_tokens": 9})) == 1
    assert world.apply(A, serve={"max_tokens": 9}) == []


def test_whoever_defines_it_hears_which_versions_are_measured(world: World) -> None:
    body: Any = {"project": PROJECT, "base": "smollm2-135m-instruct", "prompt": B}
    answer, _ = define(served(world).store, body, world.now + timedelta(minutes=1))
    assert (answer["prompt_version"], answer["candidates"]) == (2, [2])
    again, _ = define(world.store, body, world.now + timedelta(minutes=2))
    assert (again["changed"], again["prompt_version"], again["candidates"]) == (False, 2, [])


def test_without_weights_there_is_no_candidate(world: World) -> None:
    world.apply(A)
    assert len(world.apply(B)) == 1


def test_without_production_the_newest_weights_are_tried(world: World) -> None:
    world.apply(A)
    for run_id in ("run-1", "run-2"):
        world.train(run_id)
        world.score(run_id, 10.0)
    assert world.stages() == ["rejected", "rejected"]
    assert of(ModelRegisteredV1, world.apply(B))[0].weights_of == 2


def test_two_definitions_in_a_row_leave_one_candidate(world: World) -> None:
    served(world).apply(B)
    events = world.apply({"system": "Prompt C."})
    (gone,) = of(ModelRejectedV1, events)
    assert (gone.model.version, gone.by, gone.detail) == (2, "registry", "its prompt was replaced by prompt 3")
    assert world.stages() == ["production", "rejected", "candidate"]
    assert world.score("run-1-p2", 90.0, champion=1) == []  # what was under way decides nothing
    assert world.stages() == ["production", "rejected", "candidate"]


def test_a_prompt_that_changes_back_before_it_is_judged_leaves_what_serves(world: World) -> None:
    served(world).apply(B)
    events = world.apply(A)
    assert [type(event) for event in events] == [ProjectDefinedV1, ModelRejectedV1]
    assert world.stages() == ["production", "rejected"]


def test_a_pair_that_is_wanted_again_is_measured_again_and_is_no_second_version(world: World) -> None:
    served(world).apply(B)
    world.apply(A)
    (request,) = of(EvaluationRequestedV1, world.apply(B))
    assert (request.model.version, request.evaluation_id) == (2, "eval-run-1-p2-r2")
    assert world.stages() == ["production", "candidate"]
    world.score("run-1-p2", 50.0, champion=1)
    assert world.stages() == ["archived", "production"]
    (again,) = of(EvaluationRequestedV1, world.apply(A))
    assert again.model.version == 1
    assert again.champion.model.version == 2


def test_open_candidates_get_the_new_prompt_too(world: World) -> None:
    served(world).train("run-2")
    events = world.apply(B)
    assert [event.weights_of for event in of(ModelRegisteredV1, events)] == [1, 2]
    assert world.stages() == ["production", "rejected", "candidate", "candidate"]


def test_weights_that_were_trained_under_a_prompt_replaced_meanwhile_are_a_candidate_under_the_new_one(
    world: World,
) -> None:
    world.apply(A)
    before, _ = world.current()
    world.apply(B)
    events = world.train("run-1", before)
    kinds = [ModelRegisteredV1, ModelRejectedV1, ModelRegisteredV1, EvaluationRequestedV1]
    assert [type(event) for event in events] == kinds
    assert world.stages() == ["rejected", "candidate"]
    assert (world.version(2).weights_of, world.version(2).prompt_version) == (1, 2)
    assert world.take(trained("run-1", before), on_model_trained) == []


def test_a_retired_project_has_no_candidates_until_it_is_back(world: World) -> None:
    served(world)
    world.note(retire(world.store, PROJECT, Action("a person", "", world.now)))
    revision, _ = world.current()
    assert len(world.train("run-2", revision)) == 1
    events = world.apply(B)
    assert of(ModelPromotedV1, events)[0].prompt_version == 1
    assert {event.weights_of for event in of(ModelRegisteredV1, events)} == {1, 2}


def test_candidates_under_a_prompt_are_rejected_by_a_person_as_any_other(world: World) -> None:
    served(world).apply(B)
    world.note(reject(world.store, world.version(2), Action("a person", "no", world.now)))
    assert world.stages() == ["production", "rejected"]


@pytest.mark.parametrize(
    ("prompt", "loc", "message"),
    [
        ({"system": "a\n{{ x }", "variables": {"x": ""}}, ["prompt", "system"], "line 2"),
        ({"system": "{{ y }}", "variables": {"x": ""}}, ["prompt", "system"], "'y' is no variable"),
        ({"system": "{{ x }}", "variables": {"x": "", "z": ""}}, ["prompt", "variables", "z"], "does not use it"),
    ],
)
def test_a_template_that_is_none_is_refused_with_key_and_line(
    tmp_path: Path, prompt: dict[str, Any], loc: list[str], message: str
) -> None:
    body: Any = {"project": PROJECT, "base": "b", "prompt": prompt}
    with pytest.raises(ApiError, match=message) as refused:
        check_system_prompt(body, tmp_path)
    assert refused.value.status == 422
    assert refused.value.detail[0]["loc"] == loc


def opened(path: Path) -> Engine:
    engine = open_engine(RegistrySettings(home=path, database=f"sqlite:///{path}.db"))
    migrate(engine, "registry", MIGRATIONS)
    return engine


def test_the_log_tells_it_all_again(tmp_path: Path) -> None:
    live, fresh = opened(tmp_path / "live"), opened(tmp_path / "fresh")
    with writing(live) as connection, Session(connection) as session:
        world = served(World(SqlStore(session)))
        before, _ = world.current()
        world.apply(B)
        world.apply({"system": "Prompt C."})
        world.apply(B)
        world.train("run-2", before)
        world.score("run-1-p2", 50.0, champion=1)
        world.take(deployment(2, "deployed", promotion=2), on_deployment_changed)
        world.note(retire(world.store, PROJECT, Action("a person", "why", world.now)))
        world.apply(A)
        session.commit()
    replay(fresh, world)
    assert differences(live, fresh, RESTORE) == []


def replay(engine: Engine, world: World) -> None:
    """As services.chassis.replay.rebuild does: by time, at one time by the topic's name, twice, which changes nothing."""
    handlers: dict[type[Event], Any] = {**HANDLERS, **RESTORE.events}
    told = [(at, event) for at, event in world.said if type(event) in handlers]
    ids = {id(event): f"event-{n}" for n, event in enumerate((e for _, e in told if type(e) in HANDLERS), 1)}
    with writing(engine) as connection, Session(connection) as session:
        store = SqlStore(session)
        ordered = sorted(told, key=lambda one: (one[0], type(one[1]) not in HANDLERS, type(one[1]).TOPIC))
        for at, event in ordered:
            tuple(handlers[type(event)](event, meta(ids.get(id(event), "own"), at), store))
        for _, event in ordered:
            if isinstance(event, ModelTrainedV1 | ModelRegisteredV1):
                tuple(handlers[type(event)](event, meta(), store))
        session.commit()
