"""Two instances of serving on one database, each beside a Triton of its own."""

import shutil
import signal
import tempfile
from collections.abc import Iterator
from contextlib import ExitStack
from pathlib import Path

import httpx
import pytest

from tests.integration.gateway_traffic import Traffic
from tests.integration.serving_parts import Stack, Upstream, make_upstream, running, until
from tests.integration.tiny_model import make_base


@pytest.fixture
def pair(kafka: str, database: str) -> Iterator[tuple[Upstream, Stack]]:
    """An instance with its upstream, and a second one; only the last promotion of a project is kept."""
    folder = Path(tempfile.mkdtemp(prefix="noria-gateways-"))
    shared = {
        "NORIA_DATABASE": database,
        "NORIA_ARTIFACTS": (folder / "first" / "artifacts").as_uri(),
        "NORIA_SERVING_KEEP_VERSIONS": "1",
    }
    try:
        with ExitStack() as both:
            first = both.enter_context(running(Stack(folder / "first", kafka, settings=shared)))
            second = both.enter_context(running(Stack(folder / "second", kafka, settings=shared)))
            upstream = make_upstream(first, folder / "scratch")
            upstream.define("pair")
            upstream.promote("pair", 1, upstream.adapter("one", 1))
            for stack in (first, second):
                stack.wait_for("pair", "pair@1")
            yield upstream, second
    finally:
        shutil.rmtree(folder, ignore_errors=True)


def root(stack: Stack) -> str:
    return httpx.get(f"{stack.url}/v1/models/pair", timeout=5).json()["root"]


def test_each_answers_with_what_its_own_triton_holds(pair: tuple[Upstream, Stack]) -> None:
    """One that was away while the other switched goes on with the version before until its Triton holds the next."""
    upstream, late = pair
    away = late.running["serving"]
    away.send_signal(signal.SIGSTOP)
    try:
        files = upstream.artifacts.put_directory(make_base(upstream.scratch / "full", seed=9))
        upstream.promote("pair", 2, files, kind="full")
        upstream.stack.wait_for("pair", "pair@2")
        until(lambda: upstream.stack.statuses()["pair", 1] == "removed" or None, 20, "version 1 is let go")
    finally:
        away.send_signal(signal.SIGCONT)
    with Traffic(late.url, "pair") as traffic:
        until(lambda: root(late) == "pair@2" or None, 60, "the second one switched")
        switched = len(traffic.answered)
        until(lambda: len(traffic.answered) > switched + 10 or None, 30, "it answers")
    assert traffic.faults == []
    assert traffic.answered[0] == "pair@1"
    assert traffic.answered[-1] == "pair@2"
    upstream.promote("pair", 1, upstream.adapter("one-again", 1))
    for stack in (upstream.stack, late):
        stack.wait_for("pair", "pair@1")
