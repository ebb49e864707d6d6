"""Texts a second of /v1/embeddings against the same ONNX model called in the client's own process. Prints JSON.

python -m tests.bench.bench_embeddings [--texts 256]      real Kafka, Triton and serving on free ports, the openai client

In the process: onnxruntime with as many threads as Triton's has, tokens by the same tokenizer, batches of 32
sorted by length, as sentence-transformers' encode does, and of 1. The two sides take turns in one run. Texts are of 8 to 80
words of this repository's documents.
"""

import argparse
import json
import random
import shutil
import tempfile
import time
from collections.abc import Callable, Sequence
from pathlib import Path
from statistics import median
from typing import Any

import numpy as np
from openai import OpenAI
from tokenizers import Tokenizer

from compose.local import assets
from compose.local.settings import StackSettings
from services.lm.embedding import Embed, open_session
from services.serving.domain.routing import EMBEDDER
from services.serving.triton import launch
from tests import broker
from tests.integration.serving_parts import Stack, openai_client, running

ROOT = Path(__file__).parents[2]
ROUNDS = 5


def made_texts(count: int) -> list[str]:
    dice = random.Random(1)
    words = [word for page in sorted(ROOT.glob("docs/*.md")) for word in page.read_text().split() if word.isalpha()]
    return [" ".join(dice.choices(words, k=dice.choice((8, 12, 20, 40, 80)))) for _ in range(count)]


def in_process(model: Embed, tokenizer: Any, texts: Sequence[str], size: int) -> None:
    """As a user would: padded batches of like lengths."""
    by_length = sorted(texts, key=len, reverse=True)
    for begin in range(0, len(by_length), size):
        encodings = tokenizer.encode_batch(by_length[begin : begin + size])
        model(np.array([e.ids for e in encodings]), np.array([e.attention_mask for e in encodings]))


def by_endpoint(client: OpenAI, texts: Sequence[str], size: int) -> None:
    for begin in range(0, len(texts), size):
        client.embeddings.create(model=EMBEDDER, input=list(texts[begin : begin + size]))


def seconds(work: Callable[[], None]) -> float:
    begun = time.perf_counter()
    work()
    return time.perf_counter() - begun


def compare(client: OpenAI, model: Embed, tokenizer: Any, texts: list[str], sizes: tuple[int, int]) -> dict[str, float]:
    """Texts a second of both, each side's median; `sizes`: texts of a request, and of a batch in the process."""
    pairs = [
        (
            seconds(lambda: by_endpoint(client, texts, sizes[0])),
            seconds(lambda: in_process(model, tokenizer, texts, sizes[1])),
        )
        for _ in range(ROUNDS)
    ]
    endpoint, process = (len(texts) / median(side) for side in zip(*pairs, strict=True))
    return {"endpoint": round(endpoint, 1), "in_process": round(process, 1), "ratio": round(endpoint / process, 2)}


def stub_megabytes(stack: Stack) -> float:
    """Private memory of the embedder's process (proc(5), smaps_rollup)."""
    prefix = launch.TritonSettings(stack.home.resolve()).shared_memory_prefix
    (pid,) = (p for p in launch.stubs(prefix) if EMBEDDER in Path(f"/proc/{p}/cmdline").read_text(errors="replace"))
    lines = Path(f"/proc/{pid}/smaps_rollup").read_text().splitlines()
    return sum(int(line.split()[1]) for line in lines if line.startswith("Private_")) / 1000


def measure(stack: Stack, texts: list[str]) -> dict[str, Any]:
    client, folder = openai_client(stack), StackSettings().cache / "embedders" / EMBEDDER
    first = seconds(lambda: by_endpoint(client, ["hello"], 1))
    (path,) = (stack.home / "models" / "repository").glob(f"{EMBEDDER}.*/1/model.json")
    model = open_session(folder / "model.onnx", json.loads(path.read_text())["threads"])
    tokenizer: Any = Tokenizer.from_file(str(folder / "tokenizer.json"))
    tokenizer.enable_padding(pad_id=0, pad_token="[PAD]")
    short = [" ".join(text.split()[:6]) for text in texts]
    return {
        "first_request_seconds": round(first, 2),
        "all_in_one_request": compare(client, model, tokenizer, texts, (len(texts), 32)),
        "one_text_a_request": compare(client, model, tokenizer, texts[:64], (1, 1)),
        "one_short_text_a_request": compare(client, model, tokenizer, short[:64], (1, 1)),
        "stub_megabytes": round(stub_megabytes(stack)),
    }


def main() -> None:
    arguments = argparse.ArgumentParser(description=__doc__)
    arguments.add_argument("--texts", type=int, default=256)
    assets.make(StackSettings(), only="embedder")
    folder = Path(tempfile.mkdtemp(prefix="noria-bench-"))
    try:
        with broker.running() as kafka, running(Stack(folder / "home", kafka.bootstrap)) as stack:
            print(json.dumps(measure(stack, made_texts(arguments.parse_args().texts)), indent=1))
    finally:
        shutil.rmtree(folder, ignore_errors=True)


if __name__ == "__main__":
    main()
