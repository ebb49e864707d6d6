"""The deployer's wiring: each Triton model has a task of its own, so nothing that one waits for delays another."""

import asyncio
import json
import threading
from collections.abc import AsyncGenerator, Awaitable, Callable
from contextlib import asynccontextmanager
from dataclasses import dataclass, field, replace
from datetime import UTC, datetime
from pathlib import Path
from types import SimpleNamespace
from typing import Any

import pytest

from contracts.project import ProjectSpec, Prompt, Serve
from contracts.types import BaseRef
from services.lm.errors import BaseNotFound
from services.serving import applied_bases, deployer, rollout
from services.serving.domain.errors import Unavailable
from services.serving.domain.reconcile import Deployment, triton_target
from services.serving.domain.routing import resolve
from services.serving.domain.served_version import Applied, ServedVersion
from services.serving.model_files import MaterialisedVersion
from services.serving.runtime import Runtime
from services.serving.settings import ServingSettings
from services.serving.triton import client, layout
from services.serving.triton.status import EngineStatus
from tests.unit.serving.builders import target

NOW = datetime(2026, 1, 31, tzinfo=UTC)
SLOW, OTHER = "a" * 64, "b" * 64
"""Digests of two bases, each a Triton model."""


def served(project: str, base: str, version: int = 1, sequence: int = 1) -> ServedVersion:
    deployment = Deployment(project, version, "lora", base, sequence)
    return ServedVersion(deployment, BaseRef(name="b", digest=base, files={}), {}, Prompt(), Serve(), "", NOW, None)


def name(base: str) -> str:
    return triton_target(served("x", base).deployment).model


@dataclass
class Fake:
    """A store of versions, and a Triton whose loads, probes and bringings of files hang where they are told to."""

    folder: Path
    versions: list[ServedVersion] = field(default_factory=list[ServedVersion])
    changes: int = 0
    hung: set[str] = field(default_factory=set[str])
    """Triton models whose loads never end."""
    silent: set[str] = field(default_factory=set[str])
    """Adapters whose probes never end."""
    dead: set[str] = field(default_factory=set[str])
    """Generations whose process died."""
    slow_files: set[str] = field(default_factory=set[str])
    """Projects whose files do not come until `come`."""
    come: threading.Event = field(default_factory=threading.Event)
    loads: list[str] = field(default_factory=list[str])
    waiting: list[Applied] = field(default_factory=list[Applied])
    """Projects of which nothing was promoted."""

    def __post_init__(self) -> None:
        self.runtime = Runtime(
            ServingSettings(home=self.folder).model_copy(update={"check_seconds": 0.05, "serve_base": False})
        )
        self.projects = SimpleNamespace(names=lambda: ["slow", "other"], is_retired=lambda _: False)

    # the store

    def change_number(self) -> int:
        return self.changes

    def live_versions(self) -> list[ServedVersion]:
        return list(self.versions)

    def applied(self, served: set[str]) -> list[Applied]:
        return [each for each in self.waiting if each.spec.project not in served]

    def taught(self) -> list[Applied]:
        return [each for each in self.waiting if each.spec.serve.teacher is not None]

    def set_status(self, model: Any, sequence: int, status: Any, *_: Any) -> bool:
        self.put(*(
            replace(s, deployment=replace(s.deployment, status=status, answered=sequence if status == "deployed" else 0))
            if s.deployment.model == model else s for s in self.versions
        ))  # fmt: skip
        return True

    def put(self, *versions: ServedVersion) -> None:
        self.versions, self.changes = list(versions), self.changes + 1

    async def read(self, question: Callable[[Any], Any]) -> Any:
        return question(self)

    async def transact(self, change: Callable[[Any], tuple[Any, Any]], **_: Any) -> Any:
        return change(self)[0]

    def materialise(self, artifacts: Any, settings: Any, templates: Any, version: ServedVersion) -> MaterialisedVersion:
        if version.key[0] in self.slow_files:
            assert self.come.wait(20)
        adapter = self.folder / f"{version.key[0]}-{version.key[1]}"
        adapter.mkdir(exist_ok=True)
        (adapter / "adapter_config.json").write_text(json.dumps({"r": 4}))
        where = triton_target(version.deployment)
        routed = target(*version.key, triton_model=where.model, template=None)
        return MaterialisedVersion(where, self.folder, adapter, routed)

    # Triton

    async def loaded(self, _: Any, generation: str, folder: Path, **__: Any) -> None:
        self.loads.append(generation)
        if generation.rpartition(".")[0] in self.hung:
            await asyncio.Event().wait()

    async def probe(self, _: Any, generation: str, lora: str | None = None, **__: Any) -> None:
        if lora in self.silent:
            await asyncio.Event().wait()

    async def status(self, _: Any, generation: str, *__: Any) -> EngineStatus | None:
        if generation in self.dead:
            raise client.ModelNotReady("Stub process is not healthy")
        return EngineStatus(1, 0, 8, 0, 0.0, 0.0, 0.0, 0, 100)

    async def true(self, *_: Any, **__: Any) -> bool:
        return True

    async def states(self, _: Any) -> dict[str, tuple[str, str]]:
        return {}

    def generations(self, base: str) -> set[str]:
        return set(layout.generations(self.folder / "models" / "repository", name(base)))

    def answers(self, project: str, version: int = 1) -> bool:
        return self.runtime.routes.production.get(project) == f"{project}@{version}"


@pytest.fixture
def fake(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Fake:
    made = Fake(tmp_path)

    @asynccontextmanager
    async def connect(_: str) -> AsyncGenerator[None]:
        yield None

    for function in ("loaded", "probe", "status", "states"):
        monkeypatch.setattr(client, function, getattr(made, function))
    for function in ("live", "ready", "unloaded"):
        monkeypatch.setattr(client, function, made.true)
    monkeypatch.setattr(client, "connect", connect)
    monkeypatch.setattr(rollout, "materialise", made.materialise)
    monkeypatch.setattr(deployer, "ROUND_SECONDS", 0.02)
    return made


def play(fake: Fake, story: Callable[[], Awaitable[None]]) -> None:
    """Runs the deployer while the story goes on."""
    log = SimpleNamespace(**dict.fromkeys(("info", "warning", "error", "exception"), lambda *_, **__: None))
    ctx: Any = SimpleNamespace(read=fake.read, transact=fake.transact, artifacts=None, log=log)

    async def both() -> None:
        running = asyncio.create_task(deployer.run(fake.runtime, ctx))
        try:
            async with asyncio.timeout(20):
                await story()
        finally:
            fake.come.set()
            running.cancel()
            await asyncio.gather(running, return_exceptions=True)

    asyncio.run(both())


async def until(true: Callable[[], Any]) -> None:
    async with asyncio.timeout(10):
        while not true():  # noqa: ASYNC110  the deployer tells nobody
            await asyncio.sleep(0.01)


def test_a_load_that_hangs_delays_nothing_of_another_model(fake: Fake) -> None:
    fake.hung.add(name(SLOW))
    fake.put(served("slow", SLOW))

    async def story() -> None:
        await until(lambda: fake.loads)
        fake.put(*fake.versions, served("other", OTHER))
        await until(lambda: fake.answers("other"))  # brought, loaded, tried
        fake.put(*fake.versions, served("other", OTHER, 2, sequence=2))
        await until(lambda: fake.answers("other", 2))  # listed, tried
        assert len([g for g in fake.loads if g.startswith(name(OTHER))]) == 1
        fake.dead |= fake.generations(OTHER)
        await until(lambda: fake.generations(OTHER) - fake.dead)  # looked at, loaded again
        await until(lambda: fake.runtime.answers(name(OTHER)))
        assert not fake.answers("slow")
        assert len([g for g in fake.loads if g.startswith(name(SLOW))]) == 1

    play(fake, story)


def test_files_that_do_not_come_delay_nothing_of_another_model(fake: Fake) -> None:
    fake.slow_files.add("slow")
    fake.put(served("slow", SLOW), served("other", OTHER))

    async def story() -> None:
        await until(lambda: fake.answers("other"))
        assert not fake.answers("slow")
        fake.come.set()
        await until(lambda: fake.answers("slow"))

    play(fake, story)


def test_files_that_do_not_come_delay_no_reload_of_their_own_model(fake: Fake) -> None:
    fake.put(served("other", OTHER))

    async def story() -> None:
        await until(lambda: fake.answers("other"))
        fake.slow_files.add("slow")
        fake.put(*fake.versions, served("slow", OTHER))
        fake.dead |= fake.generations(OTHER)
        await until(lambda: fake.generations(OTHER) - fake.dead)
        await until(lambda: fake.runtime.answers(name(OTHER)))

    play(fake, story)


def test_a_try_in_a_model_that_died_is_given_up_and_the_model_loaded_again(fake: Fake) -> None:
    fake.put(served("other", OTHER))

    async def story() -> None:
        await until(lambda: fake.answers("other"))
        fake.silent.add("slow-v1")
        fake.put(*fake.versions, served("slow", OTHER))
        await until(lambda: "slow-v1" in fake.runtime.loaded[name(OTHER)].adapters)
        fake.dead |= fake.generations(OTHER)
        await until(lambda: fake.generations(OTHER) - fake.dead)
        assert not fake.answers("slow")

    play(fake, story)


def test_the_base_of_an_applied_project_answers_until_a_version_does(
    fake: Fake, monkeypatch: pytest.MonkeyPatch
) -> None:
    found = BaseRef(name="b", digest=OTHER, files={})

    def find(base: str, *_: Any) -> BaseRef:
        if base != "b":
            raise BaseNotFound(f"base {base!r} was not found")
        return found

    monkeypatch.setattr(applied_bases, "find", find)
    fake.runtime.settings = fake.runtime.settings.model_copy(update={"serve_base": True})
    fake.waiting = [Applied(ProjectSpec(project=p, base=b), NOW, 1) for p, b in (("slow", "x"), ("other", "b"))]
    fake.silent.add("other-v1")
    fake.changes += 1

    async def story() -> None:
        await until(lambda: fake.runtime.answers(name(OTHER)))
        assert resolve(fake.runtime.routes, "other").name == "other@base"
        with pytest.raises(Unavailable, match="'x' was not found"):
            resolve(fake.runtime.routes, "slow")
        fake.put(served("other", OTHER))
        await until(lambda: "other-v1" in fake.runtime.loaded[name(OTHER)].adapters)
        assert resolve(fake.runtime.routes, "other").name == "other@base"  # the version was not seen to answer yet
        fake.silent.clear()
        fake.put(served("other", OTHER, sequence=2))
        await until(lambda: fake.answers("other"))
        assert len(fake.loads) == 1

    play(fake, story)


def test_a_teacher_is_routed_though_its_project_has_no_model_here(fake: Fake) -> None:
    serve = Serve.model_validate({"teacher": {"url": "https://api.example.com", "model": "large-1"}})
    fake.waiting = [Applied(ProjectSpec(project="slow", base="x", serve=serve), NOW, 4)]
    fake.changes += 1

    async def story() -> None:
        await until(lambda: "slow" in fake.runtime.routes.teachers)
        teacher = fake.runtime.routes.teachers["slow"]
        assert (teacher.name, teacher.prompt_version, teacher.teacher) == ("slow@teacher", 4, serve.teacher)

    play(fake, story)


def test_a_load_that_nobody_wants_any_more_is_ended_and_taken_back(fake: Fake) -> None:
    fake.hung.add(name(SLOW))
    fake.put(served("slow", SLOW))

    async def story() -> None:
        await until(lambda: fake.loads)
        fake.put(served("other", OTHER))
        await until(lambda: not fake.generations(SLOW))
        await until(lambda: fake.answers("other"))

    play(fake, story)
