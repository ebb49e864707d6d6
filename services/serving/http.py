"""The gateway's routes: OpenAI's API and the list of deployments. Knows no Triton and no SQL."""

import time
from collections.abc import Callable
from datetime import UTC, datetime, timedelta
from typing import Annotated, Any

from fastapi import APIRouter, Query, Request
from pydantic import BaseModel
from starlette.requests import ClientDisconnect
from starlette.responses import JSONResponse, Response

from contracts.prompt import Prompt
from services.chassis.context import Context
from services.chassis.http.application import errors
from services.chassis.http.guard import By, caller, needs
from services.chassis.http.keys import SCOPES
from services.chassis.storage.pages import decode, moment, page
from services.serving.admission import admit
from services.serving.answer_document import (
    ChatAnswer,
    CompletionAnswer,
    ModelCard,
    ModelList,
    ResponseAnswer,
    answer_document,
)
from services.serving.completion_response import CompletionResponse, fault_response
from services.serving.domain.answers import model_card
from services.serving.domain.asked import Asked, WantedPrompt
from services.serving.domain.embeddings import embedder_card
from services.serving.domain.errors import ApiFault, PromptNotFound, UnknownUrl
from services.serving.domain.requests import ChatBody, CompletionBody, parse_chat, parse_completion
from services.serving.domain.responses_request import ResponsesBody, parse_responses
from services.serving.domain.routing import EMBEDDER, project_of
from services.serving.domain.savings import report
from services.serving.domain.teacher_routing import WHOLE, answerer
from services.serving.edge import whole_body
from services.serving.embedder import check_files, has_embedder
from services.serving.embeddings_route import add_embeddings
from services.serving.request_document import request_document
from services.serving.runtime import Runtime
from services.serving.store import Store
from services.serving.teacher.hindrance import set_up_fault

Limit = Annotated[int, Query(ge=1, le=200)]
Days = Annotated[float, Query(gt=0, le=3650)]


def make_router(runtime: Runtime) -> Callable[[Context[Store]], APIRouter]:
    """The routes on what the gateway and the deployer share."""

    def router(ctx: Context[Store]) -> APIRouter:
        routes = APIRouter()
        _add_generation(routes, ctx, runtime)
        add_embeddings(routes, runtime)
        _add_models(routes, runtime)

        @routes.get("/v1/deployments")
        @needs("read", by_handler=True)
        async def deployments(
            by: By, project: str | None = None, limit: Limit = 50, after: str | None = None
        ) -> dict[str, Any]:
            """Versions that were promoted and what became of them, the last promoted first."""
            place = decode(after, moment, str, int)
            if project is not None:
                by.check(project)
            mine = by.projects if project is None else {project}
            versions = await ctx.read(lambda store: store.deployments(mine, limit + 1, place))
            return page([v.body() for v in versions], limit, _place)

        @routes.get("/v1/answers/{project}")
        @needs("read", by_handler=True)
        async def answers(project: str, by: By, days: Days = 7) -> dict[str, Any]:
            """What a project's answers cost and how long they took, by who gave them; what its own versions saved."""
            by.check(project)
            since = datetime.now(UTC) - timedelta(days=days)
            found = await ctx.read(lambda store: store.answered(project, since))
            return {**report(project, found), "days": days}

        @routes.api_route("/v1/{path:path}", methods=["GET", "POST", "PUT", "DELETE", "PATCH"], include_in_schema=False)
        @needs(*SCOPES, by_handler=True)
        async def unknown(path: str, request: Request) -> Response:
            """What OpenAI's API has and this one has not."""
            return fault_response(UnknownUrl(f"{request.method} /v1/{path} is not offered here", "unknown_url"))

        return routes

    return router


def _place(deployment: dict[str, Any]) -> list[Any]:
    return [deployment["promoted_at"], deployment["project"], deployment["model"]["version"]]


def _answers(body: type[BaseModel]) -> dict[int | str, dict[str, Any]]:
    return {**answer_document(body, stream=True), **errors(404, 415, 503)}


def _add_generation(routes: APIRouter, ctx: Context[Store], runtime: Runtime) -> None:
    @routes.post("/v1/chat/completions", openapi_extra=request_document(ChatBody), responses=_answers(ChatAnswer))
    @needs("infer", by_handler=True)
    async def chat(request: Request) -> Response:
        """OpenAI's chat completions, whole or as a stream."""
        return await _generate(ctx, runtime, request, parse_chat)

    @routes.post(
        "/v1/completions", openapi_extra=request_document(CompletionBody), responses=_answers(CompletionAnswer)
    )
    @needs("infer", by_handler=True)
    async def completions(request: Request) -> Response:
        """OpenAI's completions: the text goes to the model as it is."""
        return await _generate(ctx, runtime, request, parse_completion)

    @routes.post("/v1/responses", openapi_extra=request_document(ResponsesBody), responses=_answers(ResponseAnswer))
    @needs("infer", by_handler=True)
    async def responses(request: Request) -> Response:
        """OpenAI's responses, whole or as a stream; none is kept, so each request brings its whole conversation."""
        return await _generate(ctx, runtime, request, parse_responses)

    @routes.post("/v1/responses/{path}/cancel", include_in_schema=False)
    @routes.api_route("/v1/responses/{path:path}", methods=["GET", "DELETE"], include_in_schema=False)
    @needs("read", "infer", by_handler=True)
    async def kept(path: str) -> Response:
        """What OpenAI does with answers that it keeps."""
        said = f"No response is kept here: {path[:100]!r} can be neither fetched, cancelled nor deleted"
        return fault_response(UnknownUrl(said, "response_not_found"))


def _add_models(routes: APIRouter, runtime: Runtime) -> None:
    @routes.get("/v1/models", responses=answer_document(ModelList))
    @needs("read", "infer", by_handler=True)
    async def models(by: By) -> dict[str, Any]:
        """All names that answer."""
        names = [name for name in runtime.routes.names() if by.sees(project_of(name))]
        cards = [card for name in names if (card := _card_if_any(runtime, name)) is not None]
        return {"object": "list", "data": [*cards, *([embedder_card()] if has_embedder(runtime.settings) else [])]}

    @routes.get("/v1/models/{name}", responses={**answer_document(ModelCard), **errors(404, 503)})
    @needs("read", "infer", by_handler=True)
    async def model(name: str, by: By) -> Response:
        """One name and what answers behind it."""
        try:
            if name == EMBEDDER:
                check_files(runtime.settings)
                return JSONResponse(embedder_card())
            by.check(project_of(name))
            return JSONResponse(_card(runtime, name))
        except ApiFault as fault:
            return fault_response(fault)


def _card(runtime: Runtime, name: str) -> dict[str, Any]:
    """What answers to a name where nothing is in the teacher's way but its set-up, which no request would mend."""
    target, _ = answerer(
        runtime.routes,
        name,
        WHOLE,
        lambda teacher: set_up_fault(runtime, teacher),
        lambda instead: runtime.answers(instead.triton_model),
    )
    return model_card(name, target, ready=target.teacher is not None or runtime.answers(target.triton_model))


def _card_if_any(runtime: Runtime, name: str) -> dict[str, Any] | None:
    """None where a teacher should answer to the name and is not set up here."""
    try:
        return _card(runtime, name)
    except ApiFault:
        return None


async def _generate(
    ctx: Context[Store], runtime: Runtime, request: Request, parse: Callable[[bytes], Asked]
) -> Response:
    started, project = time.perf_counter(), ""
    try:
        most = runtime.settings.max_body_bytes
        said = f"the body has more than {most} bytes, the most that is taken (NORIA_SERVING_MAX_BODY_BYTES)"
        asked = parse(await whole_body(request, said))
        project = project_of(asked.model)
        caller(request).check(project)
        prompt = await _named_prompt(ctx, project, asked.wanted_prompt)
        completions, triton = await admit(runtime, asked, caller(request).name, started, prompt)
        return CompletionResponse(runtime, completions, triton)
    except ApiFault as fault:
        if runtime.metrics:
            runtime.metrics.refuse(fault.status, project if project in runtime.routes.projects else "")
        return fault_response(fault)
    except ClientDisconnect:
        return Response(status_code=499)  # nobody reads it; nginx's code for a client that left


async def _named_prompt(ctx: Context[Store], project: str, wanted: WantedPrompt | None) -> Prompt | None:
    """The prompt of the version that a request names; None where it names none.

    Raises:
        PromptNotFound: saying which there are.
    """
    if wanted is None or wanted.version is None:
        return None
    number = wanted.version
    found, known = await ctx.read(lambda store: (store.prompt(project, number), store.prompt_numbers(project)))
    if found is None:
        there = f"there are {', '.join(map(str, known[-20:]))}" if known else "there are none"
        said = f"The version {number} of the prompt of {project!r} does not exist; {there}."
        raise PromptNotFound(said, "prompt.version")
    return found
