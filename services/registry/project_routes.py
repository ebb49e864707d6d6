"""The registry's routes of projects and of the versions of their prompts."""

import asyncio
from datetime import UTC, datetime
from typing import Annotated, Any

from fastapi import APIRouter, Query
from pydantic import BaseModel, ConfigDict, Field, JsonValue

from services.chassis.context import Context
from services.chassis.http.application import ApiError, Number, errors
from services.chassis.http.guard import By as Caller
from services.chassis.http.guard import needs
from services.chassis.storage.pages import decode, page
from services.registry.domain.prompt import PromptVersion
from services.registry.domain.representation import shown_prompt
from services.registry.projects import check_system_prompt, define, retire, view
from services.registry.store import Store
from services.registry.transitions import Action

Limit = Annotated[int, Query(ge=1, le=200)]
After = Annotated[str | None, Query(description="`next` of an earlier page")]
MODELS = 50
"""So many model versions under a prompt are named, the newest."""


class Decision(BaseModel):
    """Who moves a version by hand, and why."""

    model_config = ConfigDict(extra="forbid")

    by: str = Field(min_length=1, max_length=200)
    reason: str = Field(default="", max_length=5000)

    def action(self) -> Action:
        """What they do now."""
        return Action(self.by, self.reason, datetime.now(UTC))


def add_projects(routes: APIRouter, ctx: Context[Store]) -> None:
    """The routes of projects, under /v1."""

    @routes.post("/projects")
    @needs("operate", by_handler=True)
    async def post(body: dict[str, JsonValue], caller: Caller) -> dict[str, Any]:
        """Define a project or change it; an unchanged one is left alone, one out of service comes back."""
        caller.check(str(body.get("project")))
        await asyncio.to_thread(check_system_prompt, body, ctx.settings.cache)
        now = datetime.now(UTC)
        return await ctx.transact(lambda store: define(store, body, now), at=now)

    @routes.get("/projects")
    async def projects(limit: Limit = 50, after: After = None) -> dict[str, Any]:
        """Projects in alphabetical order."""
        place = decode(after, str)

        def read(store: Store) -> list[dict[str, Any]]:
            return [view(store, name) for name in store.project_names(limit + 1, place[0] if place else None)]

        return page(await ctx.read(read), limit, lambda item: [item["project"]])

    @routes.get("/projects/{project}", responses=errors(404))
    async def project(project: str) -> dict[str, Any]:
        """A project's specification in force and its newest revisions."""
        return await ctx.read(lambda store: view(store, project))

    @routes.post("/projects/{project}/retire", responses=errors(404))
    @needs("approve")
    async def retire_project(project: str, body: Decision) -> dict[str, Any]:
        """Take a project out of service: it is neither served nor trained any more, and all its data stays."""
        action = body.action()

        def write(store: Store) -> Any:
            events = tuple(retire(store, project, action))
            return {**view(store, project), "changed": bool(events)}, events

        return await ctx.transact(write, at=action.at)


def add_prompts(routes: APIRouter, ctx: Context[Store]) -> None:
    """The routes of projects' prompts, under /v1."""

    @routes.get("/projects/{project}/prompts", responses=errors(404))
    async def prompts(
        project: str,
        limit: Limit = 50,
        after: After = None,
    ) -> dict[str, Any]:
        """A project's prompts, newest first."""
        place = decode(after, int)

        def read(store: Store) -> list[dict[str, Any]]:
            if store.projects.current(project) is None:
                raise ApiError(404, "unknown_project", f"no project {project!r}; define it with POST /v1/projects")
            return [_shown(store, each) for each in store.prompts(project, limit + 1, place[0] if place else None)]

        return page(await ctx.read(read), limit, lambda item: [item["version"]])

    @routes.get("/projects/{project}/prompts/{number}", responses=errors(404))
    async def prompt(project: str, number: Number) -> dict[str, Any]:
        """One version of a project's prompt."""

        def read(store: Store) -> dict[str, Any]:
            found = store.prompt(project, number)
            if found is None:
                newest = store.prompts(project, 1)
                which = f"it has 1 to {newest[0].number}" if newest else "it has none"
                raise ApiError(404, "unknown_prompt", f"no prompt {number} of project {project!r}; {which}")
            return _shown(store, found)

        return await ctx.read(read)


def _shown(store: Store, prompt: PromptVersion) -> dict[str, Any]:
    serving = store.serving(prompt.project)
    models = store.with_prompt(prompt.project, prompt.number, MODELS)
    return shown_prompt(prompt, models, serving.prompt_version if serving else None)
