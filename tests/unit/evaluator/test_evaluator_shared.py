"""Prompts that are read once give the losses and answers that whole rows give, for bases of every habit."""

from collections.abc import Sequence
from dataclasses import replace
from functools import wraps
from pathlib import Path
from typing import Any

import pytest
import torch
from transformers import AutoConfig, AutoModelForCausalLM

from services.evaluator.compute import ask, shared
from services.evaluator.compute.model import Loaded, load
from services.evaluator.compute.rows import Encoded
from tests.lm_bases import FAMILIES, make_base, make_gpt_neo

NEW = 12
NO_WINDOW = sorted(name for name, habits in FAMILIES.items() if "sliding_window" not in habits.extra)


def rows(sizes: Sequence[tuple[int, int, int]]) -> list[Encoded]:
    """Rows of (own tokens of the prompt, tokens of the answer, tokens of a common beginning)."""
    torch.manual_seed(5)
    beginning = torch.randint(5, 30, (40,)).tolist()
    made: list[Encoded] = []
    for own, answer, common in sizes:
        prompt = (*beginning[:common], *torch.randint(5, 30, (own,)).tolist())
        ids = (*prompt, *torch.randint(5, 30, (answer,)).tolist())
        made.append(Encoded(prompt, ids, len(prompt)))
    return made


CHAT = rows([(1 + 7 * i % 23, 1 + 5 * i % 11, 9) for i in range(40)])
CASES: dict[str, list[Encoded]] = {
    "a common beginning": CHAT,
    "nothing in common": rows([(3, 4, 0), (9, 1, 0), (1, 1, 0)]),
    "one row": rows([(6, 3, 0)]),
    "the same prompt twice": [CHAT[0], CHAT[0]],
    "one prompt begins another": rows([(2, 3, 5)]) + rows([(2, 3, 5), (9, 3, 7)])[:1] + rows([(2, 2, 9)]),
    "plain text among them": [*CHAT[:3], Encoded((), CHAT[4].ids, 1), Encoded((), CHAT[5].ids[:2], 1)],
    "nothing left to predict": [*CHAT[:2], Encoded(CHAT[2].prompt, CHAT[2].prompt, len(CHAT[2].prompt))],
    "nothing left to predict in any": [Encoded(row.prompt, row.prompt, len(row.prompt)) for row in CHAT[:2]],
    "none": [],
}


def opened(family: str, folder: Path, **changed: Any) -> Loaded:
    base = make_base(family, folder / "base", weights=True)
    if changed:
        config = AutoConfig.from_pretrained(base, **changed)
        torch.manual_seed(1)
        AutoModelForCausalLM.from_config(config).save_pretrained(base)
    return load(base, "cpu", torch.float32)


def both(loaded: Loaded, of: Sequence[Encoded], **what: bool) -> tuple[Any, Any]:
    told = {"shared": 0, "whole": 0}

    def count(way: str) -> Any:
        def done(n: int) -> None:
            told[way] += n

        return done

    found = shared.predict(loaded, of, NEW, count("shared"), **what)
    whole = ask.separately(loaded, of, NEW, count("whole"), **what)
    assert told["shared"] == told["whole"]
    return found, whole


@pytest.fixture(scope="module")
def llama(tmp_path_factory: pytest.TempPathFactory) -> Loaded:
    return opened("llama3", tmp_path_factory.mktemp("llama"))


@pytest.mark.parametrize("case", CASES)
def test_losses_and_answers_are_those_of_whole_rows(llama: Loaded, case: str, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(shared, "tokens_a_pass", lambda _: 64)  # several passes a batch
    (losses, answers), (whole_losses, whole_answers) = both(llama, CASES[case], loss=True, answer=True)
    assert answers == whole_answers
    assert losses == pytest.approx(whole_losses, rel=1e-4, nan_ok=True)


@pytest.mark.parametrize("family", NO_WINDOW)
def test_they_are_for_every_family(family: str, tmp_path: Path) -> None:
    loaded = opened(family, tmp_path)
    assert loaded.shares_prompts
    (losses, answers), (whole_losses, whole_answers) = both(loaded, CHAT, loss=True, answer=True)
    assert answers == whole_answers
    assert losses == pytest.approx(whole_losses, rel=1e-4)


def test_answers_that_end_leave_and_the_others_go_on(llama: Loaded) -> None:
    (_, answers), _ = both(llama, CHAT, loss=False, answer=True)
    frequent = max({t for a in answers for t in a[:4]}, key=lambda t: sum(t in a for a in answers))
    ending = replace(llama, text=replace(llama.text, ends=frozenset({frequent})))
    (_, answers), (_, whole) = both(ending, CHAT, loss=False, answer=True)
    assert answers == whole
    assert {len(a) < NEW for a in answers} == {True, False}


@pytest.mark.parametrize(("loss", "answer"), [(True, False), (False, True)])
def test_only_what_is_asked_for_is_made(llama: Loaded, loss: bool, answer: bool) -> None:
    (losses, answers), _ = both(llama, CHAT[:4], loss=loss, answer=answer)
    assert ({x is not None for x in losses}, {x is not None for x in answers}) == ({loss}, {answer})


def test_a_row_that_fills_the_context_is_read_to_its_end(tmp_path: Path) -> None:
    loaded = opened("gpt2", tmp_path)
    context = loaded.context
    full = Encoded(tuple(range(5, 9)), tuple(5 + i % 25 for i in range(context)), 4)
    (losses, _), (whole, _) = both(loaded, [full, CHAT[0]], loss=True, answer=False)
    assert losses == pytest.approx(whole, rel=1e-4)


def test_each_prompt_is_read_once_and_their_beginning_once_for_all(
    llama: Loaded, monkeypatch: pytest.MonkeyPatch
) -> None:
    read = 0
    forward = llama.model.forward

    @wraps(forward)
    def counting(*given: Any, **named: Any) -> Any:
        nonlocal read
        ids = named["input_ids"]
        read += int(named.get("attention_mask", torch.ones_like(ids))[:, -ids.shape[1] :].sum())
        return forward(*given, **named)

    monkeypatch.setattr(llama.model, "forward", counting)
    same = [row for row in CHAT if len(row.ids) - row.start == 6]
    shared.predict(llama, same, 1, lambda _: None, loss=True, answer=True)
    common = shared.common_length([row.prompt for row in same])
    assert read == common + sum(len(row.ids) - 1 - common for row in same)


ROPE: dict[str, Any] = {"rope_type": "dynamic", "factor": 2.0, "rope_theta": 10_000.0}


@pytest.mark.parametrize(
    ("family", "changed"),
    [
        ("mistral", {"sliding_window": 16}),
        ("llama3", {"rope_parameters": ROPE}),
    ],
)
def test_a_model_whose_answers_depend_on_how_rows_lie_is_asked_the_other_way(
    family: str, changed: dict[str, Any], tmp_path: Path
) -> None:
    assert not opened(family, tmp_path, **changed).shares_prompts


def test_a_window_in_the_mask_alone_is_known(tmp_path: Path) -> None:
    assert not load(make_gpt_neo(tmp_path / "base"), "cpu", torch.float32).shares_prompts
