"""A real tritonserver with the vllm-compatible backend, a tiny random model and random adapters."""

import asyncio
import os
import signal
import subprocess
import sys
from collections.abc import AsyncGenerator, Iterator
from contextlib import aclosing
from pathlib import Path
from typing import Any

import httpx
import pytest

from services.serving.triton import client, launch, layout
from services.serving.triton.client import BadRequest, Chunk, Forbidden, ModelNotReady, Triton
from tests.integration.tiny_model import answered_by_peft, make_adapter, make_base
from tests.integration.triton_server import Server, serving, wait_for, whole

ROWS = 3
ECHO = """backend: "python"
input [{ name: "x", data_type: TYPE_BOOL, dims: [1] }]
output [{ name: "y", data_type: TYPE_BOOL, dims: [1] }]
instance_group [{ kind: KIND_CPU }]
"""


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
        layout.write_model(running.settings.repository, "tiny", engine)
        running.list_adapters("a", "b")
        running.ask(lambda triton: client.load(triton, "tiny"))
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
    return client.generate(triton, "tiny", prompt, wishes, stream=stream, idle_seconds=20)


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
        await client.probe(triton, "tiny", seconds=5)  # the abandoned ones would run for minutes

    server.ask(full_then_free)


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


def test_nobody_loads_models_without_the_admin_key(server: Server) -> None:
    answer = httpx.post(f"http://127.0.0.1:{server.settings.http_port}/v2/repository/models/tiny/unload")
    assert answer.status_code == 403
    with pytest.raises(Forbidden):
        server.ask(lambda triton: client.unload(Triton(triton.grpc), "tiny"))
    assert server.ask(lambda triton: client.ready(triton, "tiny"))


def test_the_admin_key_is_on_the_process_list_at_no_moment(server: Server) -> None:
    key = server.settings.key_file.read_text().strip()
    assert "--http-restricted-api=hidden" in server.listed
    assert not [word for word in server.listed if key in word]
    ours = [word for _, words in launch.processes() for word in words if str(server.settings.home) in word]
    assert ours
    assert not [word for word in ours if key in word]


def test_the_model_process_does_not_inherit_the_admin_key(server: Server) -> None:
    (stub,) = launch.stubs(server.settings.shared_memory_prefix)
    assert server.settings.key_file.read_text().strip() not in Path(f"/proc/{stub}/environ").read_text()


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


def test_a_model_whose_process_died_is_found_and_loaded_again(server: Server) -> None:
    (stub,) = launch.stubs(server.settings.shared_memory_prefix)
    os.kill(stub, signal.SIGKILL)
    with pytest.raises((ModelNotReady, client.Unavailable)):
        server.ask(lambda triton: client.probe(triton, "tiny", seconds=5))
    assert not server.ask(lambda triton: client.unload(triton, "tiny", gone=0))
    server.ask(lambda triton: client.load(triton, "tiny"))
    server.ask(lambda triton: client.probe(triton, "tiny", "a"))


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


def load_echo(own: Server) -> None:
    """Loads a model whose process starts at once, since it needs no torch."""
    model = own.settings.repository / "echo" / "1" / "model.py"
    model.parent.mkdir(parents=True)
    model.write_text(
        "class TritonPythonModel:\n    def execute(self, requests):\n        return []\n", encoding="utf-8"
    )
    (model.parents[1] / "config.pbtxt").write_text(ECHO, encoding="utf-8")
    own.ask(lambda triton: client.load(triton, "echo"))
