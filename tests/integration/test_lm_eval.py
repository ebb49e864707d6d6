"""lm-eval, unmodified, on the gateway's completions: its log-likelihoods are those that transformers and peft compute."""

import json
import os
import subprocess
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import pytest
import torch
from peft import PeftModel
from transformers import AutoTokenizer, LlamaForCausalLM

from tests.integration import client_environments
from tests.integration.serving_parts import Upstream, shop
from tests.integration.tiny_model import answered_by_peft

TASKS = Path(__file__).parent / "lm_eval"


@pytest.fixture(scope="module")
def parts(kafka: str) -> Iterator[Upstream]:
    # What is compared with is float32; by itself a processor with AMX would answer in bfloat16.
    with shop(kafka, {"NORIA_SERVING_DTYPE": "float32"}) as upstream:
        yield upstream


@pytest.fixture(scope="module")
def samples(parts: Upstream, tmp_path_factory: pytest.TempPathFactory) -> dict[str, list[dict[str, Any]]]:
    """What lm-eval asked and was answered, by task, as docs/serving.md says to run it."""
    folder = tmp_path_factory.mktemp("lm-eval")
    interpreter = client_environments.python("lm-eval")
    model = (
        f"model=shop,base_url={parts.stack.url}/v1/completions,tokenizer_backend=huggingface,tokenizer={base(parts)}"
    )
    command = [interpreter.with_name("lm_eval"), "run", "--model", "local-completions", "--model_args", model]
    command += ["--tasks", "noria_choices,noria_answers", "--include_path", TASKS, "--batch_size", "4"]
    environment = {**os.environ, "OPENAI_API_KEY": "none", "HF_HUB_OFFLINE": "1", "HF_HOME": str(folder / "hub")}
    done = subprocess.run(
        [*command, "--log_samples", "--output_path", folder],
        env=environment,
        cwd=TASKS,
        capture_output=True,
        text=True,
        timeout=200,
        check=False,
    )
    assert done.returncode == 0, done.stderr[-4000:]
    found = {task: next(folder.glob(f"shop/samples_{task}_*")) for task in ("noria_choices", "noria_answers")}
    return {task: [json.loads(line) for line in path.open()] for task, path in found.items()}


def base(parts: Upstream) -> Path:
    return parts.scratch / "base"


def adapter(parts: Upstream) -> Path:
    return parts.scratch / "one"


def test_log_likelihoods_are_those_of_transformers_and_peft(
    samples: dict[str, list[dict[str, Any]]], parts: Upstream
) -> None:
    tokenizer: Any = AutoTokenizer.from_pretrained(base(parts))
    model: Any = LlamaForCausalLM.from_pretrained(base(parts), dtype=torch.float32)
    model = PeftModel.from_pretrained(model, str(adapter(parts))).eval()
    compared = 0
    for sample in samples["noria_choices"]:
        for asked, answered in zip(sample["arguments"].values(), sample["resps"], strict=True):
            told, greedy = float(answered[0][0]), answered[0][1] == "True"
            wanted, likeliest = likelihood(model, tokenizer, asked["arg_0"], asked["arg_1"])
            assert told == pytest.approx(wanted, abs=1e-3)
            assert greedy == likeliest
            compared += 1
    assert compared == 13


@torch.inference_mode()
def likelihood(model: Any, tokenizer: Any, context: str, continuation: str) -> tuple[float, bool]:
    """Sum of the natural logarithms of the continuation's tokens, and whether each is the likeliest."""
    before, whole = (tokenizer(text, return_tensors="pt")["input_ids"] for text in (context, context + continuation))
    begin = before.shape[1]
    scores = torch.log_softmax(model(whole).logits[0, begin - 1 : -1], -1)
    tokens = whole[0, begin:]
    chosen = scores.gather(1, tokens[:, None])
    return float(chosen.sum()), bool((scores.argmax(-1) == tokens).all())


def test_written_answers_are_the_greedy_ones_up_to_the_stop(
    samples: dict[str, list[dict[str, Any]]], parts: Upstream
) -> None:
    for sample in samples["noria_answers"]:
        asked = sample["arguments"]["gen_args_0"]
        greedy = answered_by_peft(base(parts), adapter(parts), asked["arg_0"], asked["arg_1"]["max_gen_toks"])
        assert sample["resps"][0][0] == greedy.partition("\n")[0]
