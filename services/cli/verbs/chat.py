"""`noria chat`: one question to a project's model through the gateway, the answer as it is written."""

import json
import sys
from collections.abc import Iterator
from typing import TYPE_CHECKING, Annotated, Any

import typer

from services.cli import api
from services.cli.errors import Refused
from services.cli.output import AsJson, note

if TYPE_CHECKING:
    import httpx

ANSWER_TIMEOUT = 300.0
"""Seconds of silence until an answer counts as lost: a busy CPU may take long to the first token."""


def chat(
    project: Annotated[str, typer.Argument(help="Whose model answers.")],
    text: Annotated[str, typer.Argument(help="The question.")],
    model_version: Annotated[
        str | None, typer.Option("--model-version", help="A version's number, or 'base'; production where not given.")
    ] = None,
    system: Annotated[str | None, typer.Option(help="A system prompt instead of the project's.")] = None,
    max_tokens: Annotated[int | None, typer.Option(min=1)] = None,
    temperature: Annotated[float | None, typer.Option(min=0, max=2)] = None,
    as_json: AsJson = False,
) -> None:
    """Ask a project's model one question."""
    body: dict[str, Any] = {
        "model": f"{project}@{model_version}" if model_version else project,
        "messages": [*([{"role": "system", "content": system}] if system else []), {"role": "user", "content": text}],
        "max_tokens": max_tokens,
        "temperature": temperature,
    }
    body = {k: v for k, v in body.items() if v is not None}
    with api.client("serving", ANSWER_TIMEOUT) as http:
        if as_json:
            print(json.dumps(_whole(http.post("/v1/chat/completions", json=body)), ensure_ascii=False, indent=2))
            return
        with http.stream("POST", "/v1/chat/completions", json=body | {"stream": True}) as answer:
            _print(answer)
            print()
            version, request = answer.headers.get("x-noria-model-version"), answer.headers.get("x-noria-request-id")
            note(f"[{project}@{version}; tell what you think of it: noria feedback {request} --thumb up]")


def _whole(answer: "httpx.Response") -> dict[str, Any]:
    body = api.checked("serving", answer)
    return {
        "request_id": body["id"],
        "model": body.get("model"),
        "version": answer.headers.get("x-noria-model-version"),
        "answer": body["choices"][0]["message"]["content"],
        "finish_reason": body["choices"][0].get("finish_reason"),
        "usage": body.get("usage"),
    }


def _print(answer: "httpx.Response") -> None:
    if not answer.is_success:
        answer.read()
        api.checked("serving", answer)
    for piece in deltas(answer.iter_lines()):
        sys.stdout.write(piece)
        sys.stdout.flush()


def deltas(lines: Iterator[str]) -> Iterator[str]:
    """The pieces of text in OpenAI's server-sent events. Raises Refused, as `chunks`."""
    for chunk in chunks(lines):
        for choice in chunk.get("choices") or ():
            yield (choice.get("delta") or {}).get("content") or ""


def chunks(lines: Iterator[str]) -> Iterator[dict[str, Any]]:
    """The chunks of OpenAI's server-sent events.

    Raises:
        Refused: the gateway reported an error in the middle of the answer.
    """
    for line in lines:
        if not line.startswith("data:") or line.strip() == "data: [DONE]":
            continue
        chunk = json.loads(line[5:])
        if "error" in chunk:
            raise Refused(200, str(chunk["error"].get("code")), str(chunk["error"].get("message")))
        yield chunk
