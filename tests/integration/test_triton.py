"""A real tritonserver with the vllm-compatible backend, a tiny random model and random adapters."""

import asyncio
import os
import signal
import socket
import subprocess
import sys
import time
from collections.abc import AsyncGenerator, Iterator
from contextlib import aclosing
from pathlib import Path
from typing import Any

import httpx
import pytest

from services.serving.triton import client, launch, layout
from services.serving.triton.client import BadRequest, Chunk, ModelNotReady, Triton
from services.serving.triton.status import EngineStatus
from tests.integration.tiny_model import answered_by_peft, make_adapter, make_base
from tests.integration.triton_server import Server, serving, wait_for, whole

ROWS = 3
TINY: dict[str, str] = {}
"""Under which name the module's server holds the tiny model."""
ECHO = """backend: "python"
input [{ name: "x", data_type: TYPE_BOOL, dims: [1] }]
output [{ name: "y", data_type: TYPE_BOOL, dims: [1] }]
instance_group [{ kind: KIND_CPU }]
"""
HEADERS: list[dict[str, str]] = [
    {},
    *({name: "a"} for name in ("nobody", "triton-grpc-protocol-nobody", "authorization")),
]
ECHO_JSON = '{"backend": "python", "max_batch_size": 0}'


@pytest.fixture(scope="module")
def files(tmp_path_factory: pytest.TempPathFactory) -> Path:
    folder = tmp_path_factory.mktemp("tiny")
    make_base(folder / "base")
    make_adapter(folder / "a", seed=1)
    make_adapter(folder / "b", seed=2, rank=8)
    make_adapter(folder / "misfit", seed=3, hidden=32)
    return folder


@pytest.fixture(scope="module")
def server(files: Path) -> Iterator[Server]:
    with serving(files) as running:
        engine = layout.EngineArgs(files / "base", dtype="float32", max_num_seqs=ROWS)
        running.load("tiny", engine, "a", "b")
        TINY.update(running.generations)
        yield running


def generate(
    triton: Triton, prompt: str, lora: str | None = None, *, stream: bool = True, **sampling: Any
) -> AsyncGenerator[Chunk]:
    wishes = {
        "temperature": 0,
        "max_tokens": 30,
        "ignore_eos": True,
        **({"lora_name": lora} if lora else {}),
        **sampling,
    }
    return client.generate(triton, TINY["tiny"], prompt, wishes, stream=stream, idle_seconds=20)


def text(server: Server, prompt: str, lora: str | None = None, **sampling: Any) -> str:
    return server.ask(lambda triton: whole(generate(triton, prompt, lora, **sampling)))[0]


def test_base_and_adapters_answer_each_in_their_own_way(server: Server) -> None:
    assert len({text(server, "hello", lora) for lora in (None, "a", "b")}) == 3


@pytest.mark.parametrize("lora", [None, "a", "b"])
def test_an_answer_is_that_of_transformers_and_peft(server: Server, files: Path, lora: str | None) -> None:
    expected = answered_by_peft(files / "base", files / lora if lora else None, "hello", 12)
    assert text(server, "hello", lora, max_tokens=12, ignore_eos=False, min_tokens=12) == expected


def test_a_stream_holds_the_same_as_the_whole_answer(server: Server) -> None:
    streamed, last = server.ask(lambda triton: whole(generate(triton, "hello", "a")))
    at_once, only = server.ask(lambda triton: whole(generate(triton, "hello", "a", stream=False)))
    assert streamed == at_once == only.text
    assert (last.finish_reason, last.prompt_tokens, last.completion_tokens) == ("length", 5, 30)
    assert (only.finish_reason, only.prompt_tokens, only.completion_tokens) == ("length", 5, 30)


def test_an_answer_does_not_depend_on_its_neighbours(server: Server) -> None:
    cases = [(f"prompt {i}" * (i + 1), (None, "a", "b")[i % 3], 10 + 7 * i) for i in range(8)]
    alone = [text(server, prompt, lora, max_tokens=most) for prompt, lora, most in cases]

    async def together(triton: Triton) -> list[tuple[str, Chunk]]:
        return await asyncio.gather(*(whole(generate(triton, p, lora, max_tokens=most)) for p, lora, most in cases))

    assert [answer for answer, _ in server.ask(together)] == alone


def test_a_seed_makes_sampling_repeatable(server: Server) -> None:
    def draw(seed: int) -> str:
        return text(server, "hello", temperature=1.0, seed=seed)

    assert draw(1) == draw(1) != draw(2)


def test_a_stop_string_ends_the_answer_before_it(server: Server) -> None:
    full = text(server, "hello", max_tokens=60)
    stop = next(
        full[i : i + 2] for i in range(4, len(full)) if full.find(full[i : i + 2]) == i and full[i : i + 2].isascii()
    )
    answer, last = server.ask(
        lambda triton: whole(generate(triton, "hello", max_tokens=60, stop=["never there", stop]))
    )
    assert answer == full[: full.index(stop)]
    assert last.finish_reason == "stop"


def test_a_cancelled_request_makes_room_for_the_next(server: Server) -> None:
    async def abandon(triton: Triton, *, stream: bool) -> None:
        async with aclosing(generate(triton, "endless", stream=stream, max_tokens=None)) as pieces:
            async with asyncio.timeout(1 if not stream else 10):
                await anext(pieces)

    async def full_then_free(triton: Triton) -> None:
        results = await asyncio.gather(*(abandon(triton, stream=i > 0) for i in range(ROWS)), return_exceptions=True)
        assert [type(result) for result in results] == [TimeoutError, type(None), type(None)]
        await client.probe(triton, TINY["tiny"], seconds=5)  # the abandoned ones would run for minutes

    server.ask(full_then_free)


def test_a_busy_model_tells_how_it_fares_at_once(server: Server) -> None:
    async def asked_while_busy(triton: Triton) -> list[tuple[float, EngineStatus | None]]:
        async def endless() -> None:
            async for _ in generate(triton, "endless", max_tokens=None):
                pass

        async def until(rows: int, queue: int) -> None:
            deadline = time.monotonic() + 20
            while (told := await client.status(triton, TINY["tiny"], 5)) is None or (told.rows, told.queue) != (
                rows,
                queue,
            ):
                assert time.monotonic() < deadline, told

        await until(0, 0)  # what the test before abandoned may run for a moment, and would be counted among these
        busy = [asyncio.create_task(endless()) for _ in range(ROWS + 4)]
        try:
            await until(ROWS, 4)
            found: list[tuple[float, EngineStatus | None]] = []
            for _ in range(20):
                began = time.perf_counter()
                told = await client.status(triton, TINY["tiny"], 5)
                found.append((time.perf_counter() - began, told))
                await asyncio.sleep(0.02)
            return found
        finally:
            for task in busy:
                task.cancel()
            await asyncio.gather(*busy, return_exceptions=True)

    found = server.ask(asked_while_busy)
    told = [status for _, status in found if status is not None]
    assert len(told) == 20
    assert max(seconds for seconds, _ in found) < 0.5
    assert {(status.rows, status.capacity, status.queue) for status in told} == {(ROWS, ROWS, 4)}
    assert told[0].steps < told[-1].steps
    assert told[-1].oldest_wait > told[0].oldest_wait > 0


def test_a_model_that_does_not_speak_it_tells_nothing(files: Path) -> None:
    with serving(files) as own:
        load_echo(own)
        assert own.ask(lambda triton: client.status(triton, "echo", 5)) is None


def test_adapters_come_and_go_without_a_reload(server: Server, files: Path) -> None:
    make_adapter(files / "new", seed=9)
    with pytest.raises(BadRequest, match="new is not supported"):
        text(server, "hello", "new")
    server.list_adapters("a", "b", "new", "misfit")
    assert text(server, "hello", "new") not in (text(server, "hello"), text(server, "hello", "a"))
    with pytest.raises(BadRequest, match="does not fit the base model"):
        text(server, "hello", "misfit")
    server.list_adapters("a", "b")
    with pytest.raises(BadRequest, match="new is not supported"):
        text(server, "hello", "new")


def test_a_bad_request_fails_alone(server: Server) -> None:
    async def three(triton: Triton) -> list[Any]:
        good = whole(generate(triton, "hello", max_tokens=200))
        bad = whole(generate(triton, "hello", temperature=-1))
        long = whole(generate(triton, "x" * 100_001))
        return list(await asyncio.gather(good, bad, long, return_exceptions=True))

    good, bad, long = server.ask(three)
    assert good[1].completion_tokens == 200
    assert isinstance(bad, BadRequest)
    assert str(bad).startswith("temperature must be from 0")
    assert isinstance(long, BadRequest)
    assert "100001 tokens" in str(long)


@pytest.mark.parametrize(
    "path", ["repository/models/{}/unload", "repository/models/{}/load", "repository/models/new/load"]
)
def test_nobody_loads_or_unloads_over_http(server: Server, path: str) -> None:
    body = {"parameters": {"config": ECHO_JSON, "file:1/model.py": "cHJpbnQoMSk="}}
    url = f"http://127.0.0.1:{server.settings.http_port}/v2/{path.format(TINY['tiny'])}"
    for headers in HEADERS:
        refused = httpx.post(url, json=body if path.endswith("/load") else {}, headers=headers)
        assert (refused.status_code, "polling is enabled" in refused.text) == (503, True)
    assert text(server, "hello")


@pytest.mark.parametrize("method", ["load_model", "unload_model"])
def test_nobody_loads_or_unloads_over_grpc(server: Server, method: str) -> None:
    for headers in HEADERS:

        async def ask(triton: Triton, headers: dict[str, str] = headers) -> None:
            await client.call(getattr(triton.grpc, method), TINY["tiny"], headers=headers)

        with pytest.raises(client.TritonFault, match="polling is enabled"):
            server.ask(ask)
    assert text(server, "hello")


@pytest.mark.parametrize(
    "path", ["logging", "trace/setting", "systemsharedmemory/status", "cudasharedmemory/region/x/register"]
)
@pytest.mark.parametrize("value", ["", "a", "a\tb", "a  b"])
def test_nobody_writes_files_or_maps_memory(server: Server, path: str, value: str) -> None:
    url = f"http://127.0.0.1:{server.settings.http_port}/v2/{path}"
    assert httpx.get(url, headers={"nobody": value}).status_code in (403, 405)
    assert httpx.post(url, json={}, headers={"nobody": value}).status_code in (403, 405)


def test_a_header_that_spans_lines_opens_nothing(server: Server) -> None:
    """The value that would open the restricted calls holds an empty line, at which every header ends."""
    for value in (b"a\n\nb", b"a\r\n\r\nb", b"a\n \n b", b"a\r\n b"):
        with socket.create_connection(("127.0.0.1", server.settings.http_port), timeout=5) as link:
            link.sendall(b"GET /v2/logging HTTP/1.1\r\nhost: x\r\nnobody: " + value + b"\r\nconnection: close\r\n\r\n")
            assert not link.recv(1000).startswith(b"HTTP/1.1 200")

    async def ask(triton: Triton) -> None:
        await client.call(triton.grpc.get_log_settings, headers={"triton-grpc-protocol-nobody": "a"})

    with pytest.raises(client.TritonFault, match="restricted"):
        server.ask(ask)


def test_the_repository_is_its_owners_alone(server: Server) -> None:
    for folder in (server.settings.repository, layout.aside(server.settings.repository)):
        assert (folder.stat().st_mode & 0o777, folder.stat().st_uid) == (0o700, os.getuid())


def test_a_load_that_was_taken_out_of_the_repository_is_told_at_once(server: Server) -> None:
    with pytest.raises(client.Unavailable, match="taken out"):
        server.ask(lambda triton: client.loaded(triton, "tiny.00000000", server.settings.repository / "tiny.00000000"))


def test_a_load_that_fails_says_why_and_leaves_the_others(server: Server, files: Path) -> None:
    wrong = layout.add_generation(server.settings.repository, "wrong", layout.EngineArgs(files / "nothing"), {})
    with pytest.raises(client.TritonFault, match=r"cannot be loaded: .*nothing"):
        server.ask(lambda triton: client.loaded(triton, wrong, server.settings.repository / wrong))
    layout.remove_model(server.settings.repository, "wrong")
    assert text(server, "hello")
    wait_for(lambda: len(stubs(server)) == 1, 20, lambda: f"its process stays: {stubs(server)}")


def test_a_load_that_stands_still_delays_no_other(server: Server, files: Path) -> None:
    """Triton begins no load while one's initialize runs: the backend's returns before the model is there."""
    before, repository = set(stubs(server)), server.settings.repository
    slow, quick = (layout.EngineArgs(files / "base", dtype="float32"), layout.EngineArgs(files / "base"))
    first = layout.add_generation(repository, "first", slow, {})
    wait_for(lambda: server.ask(client.states).get(first, ("",))[0] == "READY", 30, lambda: "it is not begun")
    (process,) = set(stubs(server)) - before
    os.kill(process, signal.SIGSTOP)
    try:
        with pytest.raises(client.Unavailable):
            server.ask(lambda triton: client.opened(triton, first, 1.0))
        second = layout.add_generation(repository, "second", quick, {})
        server.ask(lambda triton: client.loaded(triton, second, repository / second, seconds=60))
        server.ask(lambda triton: client.probe(triton, second))
    finally:
        os.kill(process, signal.SIGKILL)  # going on it would end the server: Triton 2.51 aborts with a lock_exception
    for model in ("first", "second"):
        layout.remove_model(repository, model)
    wait_for(lambda: set(stubs(server)) == before, 20, lambda: f"their processes stay: {stubs(server)}")


def test_a_model_that_is_being_loaded_says_so_and_may_be_taken_out(server: Server, files: Path) -> None:
    before, repository = set(stubs(server)), server.settings.repository
    early = layout.add_generation(repository, "early", layout.EngineArgs(files / "base", dtype="float32"), {})
    wait_for(lambda: server.ask(client.states).get(early, ("",))[0] == "READY", 30, lambda: "it is not begun")
    assert not server.ask(lambda triton: client.opened(triton, early, 10.0))
    with pytest.raises(ModelNotReady, match="is being loaded"):
        server.ask(lambda triton: client.probe(triton, early))
    layout.remove_model(repository, "early")
    wait_for(lambda: set(stubs(server)) == before, 20, lambda: f"its process stays: {stubs(server)}")
    assert text(server, "hello")


def test_a_second_server_of_a_home_is_refused(server: Server) -> None:
    second = subprocess.run(
        [sys.executable, "-m", "services.serving.triton.launch", "--clean"],
        env=server.env,
        capture_output=True,
        check=False,
    )
    assert second.returncode == 1
    assert b"still runs" in second.stderr
    assert text(server, "hello")


def test_a_model_whose_process_died_is_found_and_loaded_again(server: Server, files: Path) -> None:
    (stub,) = launch.stubs(server.settings.shared_memory_prefix)
    os.kill(stub, signal.SIGKILL)
    with pytest.raises((ModelNotReady, client.Unavailable)):
        server.ask(lambda triton: client.probe(triton, TINY["tiny"], seconds=5))
    server.load("tiny", layout.EngineArgs(files / "base", dtype="float32", max_num_seqs=ROWS), "a", "b")
    TINY.update(server.generations)
    server.ask(lambda triton: client.probe(triton, TINY["tiny"], "a"))


def test_a_server_that_is_told_to_end_leaves_nothing(files: Path) -> None:
    with serving(files) as own:
        load_echo(own)
        own.process.terminate()
        assert own.process.wait(10) == 0
        wait_for(lambda: not own.remains, 5, lambda: str(own.remains))


def test_what_a_killed_server_leaves_is_cleaned(files: Path) -> None:
    with serving(files) as own:
        load_echo(own)
        own.process.kill()
        own.process.wait()
        assert own.remains
        subprocess.run([sys.executable, "-m", "services.serving.triton.launch", "--clean"], env=own.env, check=True)
        assert own.remains == []


def test_a_server_that_answers_nothing_is_ended(files: Path) -> None:
    with serving(files, "watchdog.SILENT_SECONDS = 4") as own:
        os.kill(own.process.pid, signal.SIGSTOP)
        assert own.process.wait(30) == -signal.SIGKILL


def stubs(server: Server) -> list[int]:
    return launch.stubs(server.settings.shared_memory_prefix)


def load_echo(own: Server) -> None:
    """Loads a model whose process starts at once, since it needs no torch."""
    aside = layout.make_private(layout.aside(own.settings.repository)) / "echo"
    (aside / "1").mkdir(parents=True)
    (aside / "1" / "model.py").write_text(
        "class TritonPythonModel:\n    def execute(self, requests):\n        return []\n", encoding="utf-8"
    )
    (aside / "config.pbtxt").write_text(ECHO, encoding="utf-8")
    aside.rename(own.settings.repository / "echo")
    own.ask(lambda triton: client.loaded(triton, "echo", own.settings.repository / "echo", seconds=30))
