"""Records as preferences: pairs, verdicts, rows of sft beside them, weights, refusals; packs that hold a prompt once."""

from pathlib import Path
from typing import Any

import pytest
import torch
from hypothesis import given
from hypothesis import strategies as st

from contracts.project import Adapter, ProjectSpec, Prompt, Train
from contracts.records import parse_record
from contracts.sections import APPLYING
from contracts.training import PreferenceTuning
from services.lm.learning import Row
from services.lm.measured import Compute
from services.lm.tokens import open_tokenizer
from services.trainer.compute import losses, model, reference
from services.trainer.compute.forward import collate, log_probs
from services.trainer.domain import preferences
from services.trainer.domain.preferences import Preferred, kto_weights, why_not
from services.trainer.domain.stages import stage_recipes
from services.trainer.domain.units import learn, mismatched, pair, verdict

PAIR = {"prompt": "list", "chosen": "ls -l", "rejected": "dir /w"}
DONE = {"prompt": "show", "completion": "cat"}


def encoded(base: Path, method: str, *records: dict[str, Any], **settings: Any) -> Preferred:
    recipe = Train.model_validate({"stages": [method], "max_length": 60, **settings})
    parsed = [parse_record(record)[1] for record in records]
    return preferences.encode(parsed, [{}] * len(parsed), open_tokenizer(base), Prompt(system="Brief."), recipe)


def text(base: Path, row: Row) -> tuple[str, str]:
    tokenizer = open_tokenizer(base)
    return tokenizer.decode(row.ids[: row.start], skip_special=False), tokenizer.decode(
        row.ids[row.start :], skip_special=False
    )


def test_a_pair_is_two_answers_behind_one_prompt(base: Path) -> None:
    found = encoded(base, "dpo", PAIR, DONE)
    (unit,) = found.units
    (asked, chosen), (again, rejected) = (text(base, row) for row in unit.rows)
    assert asked == again == "<s>system\nBrief.</s>\n<s>user\nlist</s>\n<s>assistant\n"
    assert (chosen, rejected) == ("ls -l</s>", "dir /w</s>")
    assert unit.shared == unit.rows[0].start
    assert [text(base, row)[1] for row in found.rows] == ["cat</s>"]


@pytest.mark.parametrize(("rejected", "near"), [("ls -l", True), ("ls -a", True), ("du", False)])
def test_answers_that_hardly_differ_are_a_row_of_sft(base: Path, rejected: str, near: bool) -> None:
    found = encoded(base, "dpo", {**PAIR, "rejected": rejected}, preference={"min_distance": 0.2})
    assert (len(found.units), found.too_close, len(found.rows)) == ((0, 1, 1) if near else (1, 0, 0))


def test_kto_takes_verdicts_and_both_answers_of_a_pair(base: Path) -> None:
    bad = {"prompt": "list", "completion": "format c:", "label": False}
    found = encoded(base, "kto", PAIR, DONE, bad, {**bad, "label": True})
    assert [unit.desirable for unit in found.units] == [True, False, False, True]
    assert len(found.rows) == 1


def test_what_cannot_be_learnt_is_counted_by_reason(base: Path) -> None:
    long = {**PAIR, "prompt": "x" * 80}
    empty = {**PAIR, "rejected": " "}
    bad = {"prompt": "list", "completion": "format c:", "label": False}
    cut = {**PAIR, "chosen": "y" * 80}
    found = encoded(base, "dpo", long, empty, bad, cut)
    assert found.left_out == {"answer_cut_off": 1, "no_completion": 1, "undesirable": 1}
    assert (len(found.units), found.cut) == (1, 1)


def test_a_method_without_its_data_is_refused_with_counts_and_advice(base: Path) -> None:
    only = encoded(base, "dpo", DONE, {**PAIR, "rejected": "ls -l"})
    assert (why := why_not("dpo", only)) is not None
    assert "1 pairs too close" in why
    assert "2 rows of sft" in why
    assert "train.method: sft" in why
    good = encoded(base, "kto", {"prompt": "a", "completion": "b", "label": True})
    assert "1 desirable and 0 undesirable" in str(why_not("kto", good))
    assert why_not("kto", encoded(base, "kto", PAIR)) is None


@given(desirable=st.integers(1, 10_000), undesirable=st.integers(1, 10_000))
def test_weights_of_kto_balance_the_labels(desirable: int, undesirable: int) -> None:
    for_it, against = kto_weights(desirable, undesirable)
    assert 1 - 1e-9 <= for_it * desirable / (against * undesirable) <= 4 / 3 + 1e-9
    assert min(for_it, against) == 1


def test_replay_is_a_share_of_all_and_the_same_for_a_seed() -> None:
    rows = [Row((1, i), ((1, 2),)) for i in range(100)]
    chosen = preferences.replayed(rows, 80, 0.2, 7)
    assert len(chosen) == 20
    assert chosen == preferences.replayed(rows, 80, 0.2, 7) != preferences.replayed(rows, 80, 0.2, 8)
    assert len(preferences.replayed(rows[:3], 80, 0.2, 7)) == 3
    assert preferences.replayed(rows, 80, 0, 7) == []


def test_a_mismatch_is_the_prompt_with_another_prompts_answer() -> None:
    units = [verdict(Row((0, i // 2, 50 + i, 99), ((2, 4),)), True) for i in range(8)]
    rows = mismatched(units)
    for unit, row in zip(units, rows, strict=True):
        assert row.ids[:2] == unit.rows[0].ids[:2]
        (other,) = [u for u in units if u.rows[0].ids[2:] == row.ids[2:]]
        assert other.rows[0].ids[1] != row.ids[1]
    assert mismatched(units[::-1])[::-1] == rows


def test_length_ratio_is_of_both_sides_means() -> None:
    short, long = Row((1, 2), ((1, 2),)), Row((1, 2, 3, 4), ((1, 4),))
    assert preferences.length_ratio([pair(long, short)]) == 3
    assert preferences.length_ratio([verdict(long, False), verdict(short, True), verdict(long, True)]) == pytest.approx(
        2 / 3
    )
    assert preferences.length_ratio([verdict(long, True)]) is None


@pytest.mark.parametrize("prefix", [0, 3])
def test_a_pair_that_shares_its_prompt_is_told_as_two_rows_apart(base: Path, prefix: int) -> None:
    net = model.prepare(base, "tiny", Adapter(r=4), Compute("cpu", "float32", 1))
    rows = [Row((0, 9, 8, 7, 5, *answer), ((5, 5 + len(answer)),)) for answer in ((30, 31, 33), (30, 34), (41,))]
    units = [pair(rows[0], rows[1]), learn(rows[2])]
    assert (units[0].shared, units[0].size) == (6, 9)
    packed = log_probs(net, collate([1, 0], units, prefix, "cpu", torch.float32), torch.float32)
    for row, found in zip((rows[2], rows[0], rows[1]), packed, strict=True):
        logits = net(input_ids=torch.tensor([row.ids])).logits[0].log_softmax(-1)
        want = torch.stack([logits[at - 1, row.ids[at]] for at in range(row.start, len(row.ids))])
        torch.testing.assert_close(found, want, rtol=1e-5, atol=1e-5)


def test_label_smoothing_is_the_mean_over_both_labels() -> None:
    """Mitchell's conservative DPO, which TRL has no more."""
    margin = torch.tensor([-2.0, 0.5, 3.0])
    usual, smooth = PreferenceTuning(beta=0.5), PreferenceTuning(beta=0.5, label_smoothing=0.1)
    want = 0.9 * losses.dpo(margin, usual) + 0.1 * losses.dpo(-margin, usual)
    torch.testing.assert_close(losses.dpo(margin, smooth), want)


def test_odds_of_a_sure_answer_have_a_gradient() -> None:
    sure = torch.tensor([0.0, -1e-9, -50.0], requires_grad=True)
    odds = losses.log_odds_ratio(sure, torch.tensor([-1.0, -1e-9, -0.1]))
    (gradient,) = torch.autograd.grad(odds.sum(), sure)
    assert torch.isfinite(odds).all()
    assert torch.isfinite(gradient).all()


def test_a_references_file_comes_back_and_anothers_is_not_taken(tmp_path: Path) -> None:
    table = {"ab" * 32: torch.tensor([-1.0, -2.0]), "0c" * 32: torch.tensor([-0.5])}
    file, identity = tmp_path / "reference-0.safetensors", {"weights": "a", "dtype": "float32"}
    reference.save(file, table, identity)
    found = reference.load(file, identity)
    assert {key: value.tolist() for key, value in found.items()} == {
        key: value.tolist() for key, value in table.items()
    }
    assert reference.load(file, {**identity, "weights": "b"}) == {}
    file.write_bytes(file.read_bytes()[:40])
    assert reference.load(file, identity) == reference.load(tmp_path / "none", identity) == {}


def test_a_method_is_the_short_form_of_one_stage() -> None:
    short, long = Train.model_validate({"method": "dpo"}), Train(stages=("dpo",))
    assert short == long
    assert Train.model_validate(short.model_dump(mode="json")) == short
    assert Train(stages=("sft",)) == Train()
    assert not {"stages", "preference"} & Train().model_dump(mode="json").keys()
    assert [(r.methods, r.learning_rate) for r in stage_recipes(Train(stages=("sft", "dpo")))] == [
        (("sft",), 1e-3),
        (("dpo",), 1e-5),
    ]


@pytest.mark.parametrize(
    ("train", "told"),
    [
        ({"method": "dpp"}, "did you mean dpo"),
        ({"stages": ["sft", "dpp"]}, "did you mean dpo"),
        ({"method": "dpo", "stages": ["sft", "dpo"]}, "give one of the two"),
        ({"stages": ["dpo", "dpo"]}, "name each once"),
        ({"method": "kto", "batch_size": 1}, "batch_size of at least 2"),
        ({"method": "dpo", "learning_rate": 0.01}, r"give preference\.learning_rate"),
    ],
)
def test_what_makes_no_recipe_is_refused(train: dict[str, Any], told: str) -> None:
    with pytest.raises(ValueError, match=told):
        ProjectSpec.model_validate({"project": "p", "base": "b", "train": train}, context=APPLYING)
