"""A gateway whose project is taught by another gateway of ours, on a real Triton, Kafka and PostgreSQL."""

import shutil
import signal
import tempfile
from collections.abc import Iterator
from contextlib import ExitStack
from pathlib import Path
from typing import Any

import httpx
import pytest

from services.lm.base_files import base_ref
from tests.integration.serving_parts import Stack, make_upstream, openai_client, read_topic, running, until

SYSTEM = "Be brief."
USER: Any = [{"role": "user", "content": "hello"}]
PRICE = {"prompt": 1000, "completion": 5000, "currency": "EUR"}
BUDGET = 0.5
"""Euros: some answers of a tenth."""


@pytest.fixture
def pair(kafka: str, database: str) -> Iterator[tuple[Stack, Stack]]:
    """The teacher's gateway, beside a Triton, and the pupil's, beside none; both on one database."""
    folder = Path(tempfile.mkdtemp(prefix="noria-taught-"))
    shared = {"NORIA_DATABASE": database, "NORIA_ARTIFACTS": (folder / "first" / "artifacts").as_uri()}
    with ExitStack() as stack:
        stack.callback(shutil.rmtree, folder, ignore_errors=True)
        first = stack.enter_context(running(Stack(folder / "first", kafka, settings=shared)))
        allowed = {"NORIA_SERVING_TEACHER_HOSTS": first.url, "NORIA_SECRET_LARGE": "sk-integration-4711"}
        second = Stack(folder / "second", kafka, settings=shared | allowed)
        second.home.mkdir()
        second.start("serving")
        stack.callback(lambda: [second.kill(name, signal.SIGTERM) for name in list(second.running)])
        upstream = make_upstream(first, folder / "scratch")
        base = str(folder / "scratch" / "base")
        upstream.base = base_ref(base, Path(base), upstream.artifacts.put_file)
        upstream.define("theirs", base=base)
        first.wait_for("theirs", "theirs@base")
        until(lambda: httpx.get(f"{first.url}/v1/models/theirs").json()["ready"] or None, 60, "the base is loaded")
        teacher = {"url": f"{first.url}/v1", "model": "theirs", "key": "LARGE", "price": PRICE, "budget": BUDGET}
        upstream.define("pupil", SYSTEM, base="/nowhere/base", teacher=teacher)
        yield first, second


def taught(stack: Stack) -> bool | None:
    """Whether the pupil's gateway routes to the teacher, and knows what was spent."""
    try:
        card = httpx.get(f"{stack.url}/v1/models/pupil", timeout=5)
        asked = httpx.post(f"{stack.url}/v1/chat/completions", json={"model": "pupil", "messages": []}, timeout=5)
    except httpx.HTTPError:
        return None
    return (card.status_code == 200 and card.json()["root"] == "pupil@teacher" and asked.status_code == 400) or None


def refused(stack: Stack) -> tuple[int, str] | None:
    """(status, code) of a request to the pupil that is refused; None where it is answered."""
    try:
        told = httpx.post(f"{stack.url}/v1/chat/completions", json={"model": "pupil", "messages": USER}, timeout=60)
    except httpx.HTTPError:
        return None
    return None if told.status_code == 200 else (told.status_code, told.json()["error"]["code"])


def test_another_gateway_teaches_within_a_budget_that_survives_a_restart(pair: tuple[Stack, Stack], kafka: str) -> None:
    first, second = pair
    until(lambda: taught(second), 60, "the teacher is routed")
    asked = [{"role": "system", "content": SYSTEM}, *USER]
    direct = openai_client(first).chat.completions.create(model="theirs", messages=asked)  # type: ignore[arg-type]
    until(lambda: refused(second) != (503, "teacher_budget_unknown") or None, 20, "it is known what was spent")
    pupil = openai_client(second)
    whole = pupil.chat.completions.create(model="pupil", messages=USER)
    assert (whole.model, whole.choices[0].message.content) == ("pupil", direct.choices[0].message.content)
    assert whole.usage == direct.usage
    stream = pupil.chat.completions.create(
        model="pupil", messages=USER, stream=True, stream_options={"include_usage": True}
    )
    chunks = list(stream)
    text = "".join(chunk.choices[0].delta.content or "" for chunk in chunks if chunk.choices)
    assert (text, chunks[-1].usage) == (direct.choices[0].message.content, direct.usage)
    ids = {whole.id, chunks[0].id}

    def mine(events: list[dict[str, Any]]) -> list[dict[str, Any]]:
        return [event for event in events if event["request_id"] in ids]

    events = mine(read_topic(kafka, "serving.inference.completed.v1", lambda found: len(mine(found)) == 2))
    assert direct.usage is not None
    cost = (direct.usage.prompt_tokens * 1000 + direct.usage.completion_tokens * 5000) / 1e6
    for event in events:
        assert (event["model"]["version"], event["output"]) == (0, direct.choices[0].message.content)
        assert (event["teacher"]["model"], event["teacher"]["currency"]) == ("theirs", "EUR")
        assert event["teacher"]["cost"] == pytest.approx(cost)

    until(lambda: refused(second) == (429, "teacher_budget_spent") or None, 60, "the budget is spent")
    told = httpx.get(f"{first.url}/v1/answers/pupil").json()["answered"]  # the other gateway knows it from the records
    assert [(each["teacher"], each["currency"]) for each in told] == [(True, "EUR")]
    until(lambda: spent(first) >= BUDGET or None, 20, "all records came back")
    assert spent(first) <= BUDGET + cost
    assert refused(first) == (503, "teacher_not_allowed")

    second.kill("serving")
    second.start("serving")
    until(lambda: taught(second), 60, "the teacher is routed again")
    until(lambda: refused(second) != (503, "teacher_budget_unknown") or None, 20, "it is known what was spent")
    assert refused(second) == (429, "teacher_budget_spent")
    assert "sk-integration-4711" not in second.log("serving")


def spent(stack: Stack) -> float:
    """What the report says that the pupil's teacher cost."""
    return sum(each["cost"] for each in httpx.get(f"{stack.url}/v1/answers/pupil").json()["answered"])
