"""The gateway under a rush, with a model that stands still, and when it is told to end."""

import os
import shutil
import signal
import tempfile
import time
from collections.abc import Iterator
from concurrent.futures import ThreadPoolExecutor
from pathlib import Path
from typing import Any

import httpx
import pytest

from services.serving.triton import launch
from tests.integration.serving_parts import Stack, Upstream, make_upstream, running, until


@pytest.fixture(scope="module")
def parts(kafka: str) -> Iterator[Upstream]:
    folder = Path(tempfile.mkdtemp(prefix="noria-load-"))
    settings = {"NORIA_SERVING_CHECK_SECONDS": "5"}
    try:
        with running(Stack(folder / "home", kafka, settings=settings)) as stack:
            upstream = make_upstream(stack, folder / "scratch")
            upstream.define("shop")
            upstream.define("hasty", max_wait="1s")
            for project in ("shop", "hasty"):
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


def test_a_rush_is_answered_or_refused_early_and_nothing_is_reloaded(parts: Upstream) -> None:
    stack, before = parts.stack, stubs(parts.stack)
    with ThreadPoolExecutor(90) as pool:
        answers = list(pool.map(lambda n: ask(stack, model=("shop", "hasty")[n % 3 == 0], max_tokens=256), range(90)))
    assert {status for status, *_ in answers} <= {200, 429, 503}
    for status, _, headers, said in answers:
        assert status == 200 or said["error"]["code"] in ("overloaded", "share_in_use")
        assert status == 200 or int(headers["retry-after"]) >= 1
    assert sum(status == 200 for status, *_ in answers) >= 20
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
