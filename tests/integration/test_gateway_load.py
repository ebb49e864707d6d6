"""The gateway under a rush, with a model that stands still, and when it is told to end."""

import asyncio
import json
import os
import shutil
import signal
import socket
import statistics
import tempfile
import time
import uuid
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import httpx
import pytest

from contracts.events.serving import InferenceCompletedV1
from services.serving.triton import client, launch
from tests.integration.serving_parts import Stack, Upstream, make_upstream, read_topic, running, until


@pytest.fixture(scope="module")
def parts(kafka: str) -> Iterator[Upstream]:
    folder = Path(tempfile.mkdtemp(prefix="noria-load-"))
    settings = {"NORIA_SERVING_CHECK_SECONDS": "5", "NORIA_SERVING_READER_SECONDS": "2"}
    try:
        with running(Stack(folder / "home", kafka, settings=settings)) as stack:
            upstream = make_upstream(stack, folder / "scratch")
            upstream.define("shop")
            upstream.define("hasty", max_wait="1s")
            upstream.define("patient", max_wait="1h")  # whatever prompts cost by the pace that is known then
            for project in ("shop", "hasty", "patient"):
                upstream.promote(project, 1, upstream.adapter(project, 1))
                stack.wait_for(project, f"{project}@1")
            yield upstream
    finally:
        shutil.rmtree(folder, ignore_errors=True)


def body(model: str = "shop", **options: Any) -> dict[str, Any]:
    return {"model": model, "messages": [{"role": "user", "content": "hello"}], "temperature": 1, "seed": 3, **options}


def ask(stack: Stack, **options: Any) -> tuple[int, float, dict[str, str], Any]:
    """Status, seconds, headers and body of an answer."""
    began = time.monotonic()
    answer = httpx.post(f"{stack.url}/v1/chat/completions", json=body(**options), timeout=100)
    return answer.status_code, time.monotonic() - began, dict(answer.headers), answer.json()


def stubs(stack: Stack) -> list[int]:
    return launch.stubs(launch.TritonSettings(stack.home.resolve()).shared_memory_prefix)


@pytest.mark.parametrize("requests", [90, 300])
def test_a_rush_is_answered_or_refused_early_and_nothing_is_reloaded(parts: Upstream, requests: int) -> None:
    stack, before = parts.stack, stubs(parts.stack)
    answers = asyncio.run(rush(stack, requests))
    assert {status for status, *_ in answers} <= {200, 429, 503}
    for status, _, headers, said in answers:
        assert status == 200 or said["error"]["code"] in ("overloaded", "share_in_use")
        assert status == 200 or int(headers["retry-after"]) >= 1
        assert (
            status != 200 or said["usage"]["completion_tokens"] == 256 or said["choices"][0]["finish_reason"] == "stop"
        )
    refused = [seconds for status, seconds, *_ in answers if status != 200]
    late = [seconds for _, seconds, *_ in answers[requests:]]
    print(
        f"{requests}: {len(refused)} refused, at once {max(refused):.3f} s, one by one {statistics.median(late):.3f} s"
    )
    assert 20 <= len(answers) - len(refused) < requests
    assert statistics.median(late) < 2  # on cores that the model takes, beside whatever else runs here
    assert stubs(stack) == before


async def rush(stack: Stack, requests: int) -> list[tuple[int, float, dict[str, str], Any]]:
    """As many at once, of two projects; then some one by one of the project that would not wait."""
    ask(stack, max_tokens=256)  # the pace is known
    # A connection of its own for each: one that was refused idles as long as the server keeps it, and breaks when used again.
    limits = httpx.Limits(max_connections=None, max_keepalive_connections=0)
    async with httpx.AsyncClient(timeout=300, limits=limits) as http:

        async def one(model: str) -> tuple[int, float, dict[str, str], Any]:
            began, wanted = time.monotonic(), body(model, max_tokens=256, ignore_eos=True)
            answer = await http.post(f"{stack.url}/v1/chat/completions", json=wanted)
            return answer.status_code, time.monotonic() - began, dict(answer.headers), answer.json()

        first = [asyncio.create_task(one(("shop", "hasty")[n % 3 == 0])) for n in range(requests)]
        await asyncio.wait(first, return_when=asyncio.FIRST_COMPLETED)
        await asyncio.sleep(1)
        late: list[tuple[int, float, dict[str, str], Any]] = []
        while len(late) < 10 and not all(task.done() for task in first):
            late.append(await one("hasty"))
            if late[-1][0] == 200:  # the rush is over
                late.pop()
                break
        return [*await asyncio.gather(*first), *late]


def test_a_client_that_stops_reading_is_cut_and_its_row_is_free(parts: Upstream) -> None:
    """What it does not read fills what its own system and the gateway's keep of it, some 100 KB: 400 tokens, then it is cut."""
    stack, name = parts.stack, f"reader-{uuid.uuid4().hex}"
    wanted = json.dumps(body(stream=True, max_tokens=20_000, ignore_eos=True, user=name)).encode()
    head = f"POST /v1/chat/completions HTTP/1.1\r\nhost: x\r\ncontent-length: {len(wanted)}\r\n\r\n"
    with socket.create_connection(("127.0.0.1", stack.ports["serving"])) as reader:
        reader.sendall(head.encode() + wanted)
        (cut,) = ended(parts, name)
    assert (cut["status"], str(cut["error"]).split(":")[0]) == ("cancelled", "reader_stalled")
    assert 0 < cut["completion_tokens"] < 20_000
    until(lambda: rows(stack) == 0, 5, "its row is free")


def ended(parts: Upstream, user: str) -> list[dict[str, Any]]:
    """The records of a user's requests."""
    topic = InferenceCompletedV1.TOPIC
    found = read_topic(parts.stack.kafka, topic, lambda events: any(e["user"] == user for e in events), 60)
    return [event for event in found if event["user"] == user]


def rows(stack: Stack) -> int:
    """Answers that the engine makes."""

    async def asked() -> int:
        async with client.connect(f"127.0.0.1:{stack.ports['grpc']}") as triton:
            (model,) = await client.states(triton)
            status = await client.status(triton, model, 5)
            assert status
            return status.rows

    return asyncio.run(asked())


def test_prompts_that_take_long_to_be_read_make_nobody_wait_for_the_status(parts: Upstream) -> None:
    """Half a megabyte in 32 choices, each refused by its length: seconds of work, and no sign of death."""
    stack, before = parts.stack, stubs(parts.stack)

    async def slowest() -> float:
        wanted = {"model": "patient", "prompt": "word " * 100_000, "n": 32}
        async with httpx.AsyncClient(timeout=100) as http, client.connect(f"127.0.0.1:{stack.ports['grpc']}") as triton:
            (model,) = await client.states(triton)
            answer, found = asyncio.create_task(http.post(f"{stack.url}/v1/completions", json=wanted)), 0.0
            answer.add_done_callback(lambda _: ends.append(time.monotonic() + 5))  # the other choices are still read
            ends: list[float] = []
            while not ends or time.monotonic() < ends[0]:
                began = time.monotonic()
                assert await client.status(triton, model, 5)
                found = max(found, time.monotonic() - began)
                await asyncio.sleep(0.05)
            assert (await answer).json()["error"]["code"] == "context_length_exceeded"
            return found

    assert asyncio.run(slowest()) < 3
    assert ask(stack, max_tokens=2)[0] == 200
    assert stubs(stack) == before


def test_a_model_process_that_stands_still_is_replaced(parts: Upstream) -> None:
    """Nobody asks it meanwhile: its silence at the look is what tells, within 10 s."""
    stack = parts.stack
    (stopped,) = stubs(stack)
    os.kill(stopped, signal.SIGSTOP)
    try:
        until(lambda: not stack.ready(), 10, "serving is not ready")
        until(lambda: ask(stack, max_tokens=2)[0] == 200 or None, 60, "another process answers")
        assert stopped not in stubs(stack) or len(stubs(stack)) == 2
    finally:
        os.kill(stopped, signal.SIGKILL)


def test_told_to_end_it_is_unready_first_then_lets_answers_end(parts: Upstream) -> None:
    stack, process = parts.stack, parts.stack.running["serving"]
    with httpx.stream(
        "POST", f"{stack.url}/v1/chat/completions", json=body(stream=True, max_tokens=600), timeout=60
    ) as answer:
        lines = answer.iter_lines()
        next(lines)
        process.send_signal(signal.SIGTERM)
        report = until(lambda: _stopping(stack), 5, "it says that it is being stopped")
        assert report["status"] == "not_ready"
        status, _, headers, said = ask(stack, max_tokens=2)
        assert (status, said["error"]["code"], headers["retry-after"]) == (503, "stopping", "1")
        assert process.poll() is None
        assert [line for line in lines if line][-1] == "data: [DONE]"
    assert process.wait(15) == 0
    del stack.running["serving"]
    stack.start("serving")
    stack.wait_for("shop", "shop@1")


def _stopping(stack: Stack) -> dict[str, Any] | None:
    report = httpx.get(f"{stack.url}/health/ready", timeout=5).json()
    return None if report["checks"]["stopping"]["ok"] else report
