"""Asks the gateway through OpenAI's client, many at once, and gives feedback over HTTP, as an application would."""

import asyncio
import os
from collections.abc import Callable, Sequence
from dataclasses import dataclass
from typing import TYPE_CHECKING

from compose.local import API_KEY
from services.cli import api
from services.cli.demo.board import DemoFailed
from services.cli.from_zero.users import Question, Turn, says

if TYPE_CHECKING:
    from openai import AsyncOpenAI

AT_ONCE = 16
PATIENCE = 300.0
"""Seconds until an answer counts as lost."""
RETRIES = 5
"""Times that the client asks again where the gateway is busy; it waits as long as it is told."""

Told = Callable[[int], None]
"""Hears how many are done."""


@dataclass(frozen=True, slots=True)
class Answer:
    """What was said to a question: the request's id, the version that answered ('0': the base), the text."""

    question: Question
    request_id: str
    version: str
    text: str


def ask(model: str, questions: Sequence[Question], told: Told) -> list[Answer]:
    """Greedy answers in the order of the questions.

    Raises:
        DemoFailed: the gateway did not answer one of them.
    """
    return asyncio.run(_with_client(model, [(question, None) for question in questions], told))


def use(model: str, turn: Turn, questions: Sequence[Question], told: Told) -> list[Answer]:
    """Users ask and say what they think of each answer as soon as it is there. The answers in the order of the questions.

    Raises:
        DemoFailed: the gateway did not answer.
        Refused: feedback was refused.
    """

    def give(place: int, answer: Answer) -> None:
        user, question = turn.asked[place]
        said = says(user, question, answer.text, questions, f"{place} {user.name} {question.text}")
        api.post("feedback", "/v1/feedback", {"request_id": answer.request_id, **said})

    return asyncio.run(_with_client(model, [(question, user.name) for user, question in turn.asked], told, give))


async def _with_client(
    model: str,
    asked: Sequence[tuple[Question, str | None]],
    told: Told,
    give: Callable[[int, Answer], None] | None = None,
) -> list[Answer]:
    from openai import AsyncOpenAI, OpenAIError

    from services.cli.demo.ask import gateway

    key = os.environ.get(API_KEY) or "none"
    room, done = asyncio.Semaphore(AT_ONCE), 0
    async with AsyncOpenAI(base_url=f"{gateway()}/v1", api_key=key, timeout=PATIENCE, max_retries=RETRIES) as client:

        async def one(place: int, question: Question, user: str | None) -> Answer:
            nonlocal done
            async with room:
                answer = await _ask(client, model, question, user)
                if give is not None:
                    await asyncio.to_thread(give, place, answer)
            done += 1
            told(done)
            return answer

        try:
            async with asyncio.TaskGroup() as group:
                tasks = [group.create_task(one(n, question, user)) for n, (question, user) in enumerate(asked)]
        except* OpenAIError as errors:
            raise DemoFailed(f"the gateway did not answer as {model!r}: {errors.exceptions[0]}") from errors
    return [task.result() for task in tasks]


async def _ask(client: "AsyncOpenAI", model: str, question: Question, user: str | None) -> Answer:
    from openai import omit

    raw = await client.chat.completions.with_raw_response.create(
        model=model,
        messages=[{"role": "user", "content": question.text}],
        temperature=0,
        user=omit if user is None else user,
    )
    body = raw.parse()
    version = raw.headers.get("x-noria-model-version", "").rsplit("@", 1)[-1]
    return Answer(question, body.id, version, body.choices[0].message.content or "")
