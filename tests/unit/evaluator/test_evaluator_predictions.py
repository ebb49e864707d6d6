import pytest

from contracts.gate import parse
from services.evaluator.domain.predictions import (
    Example,
    Prediction,
    Scores,
    differences,
    held_out,
    kept,
    metrics,
    missing,
    paired_tests,
    scores,
)

SUITE = ("loss", "exact_match", "chrf")


def example(record_id: str, reference: str, ask: str | None = "list files") -> Example:
    return Example(record_id, ({"role": "user", "content": ask},) if ask else (), reference)


def test_the_key_tells_prompts_and_references_apart():
    keys = {
        example("a", "ls").key,
        example("a", "ls -l").key,
        example("a", "ls", "list").key,
        example("a", "ls", None).key,
    }
    assert len(keys) == 4
    assert example("a", "ls").key == example("b", "ls").key


def test_the_key_tells_system_prompts_apart_and_where_one_turn_ends():
    def asked(*turns: str) -> str:
        return Example("a", tuple({"role": "system", "content": turn} for turn in turns), "ls").key

    assert len({asked("x"), asked("y"), asked("x", "y"), asked("x\x1esystem\x1fy"), asked('x", "y')}) == 5


def test_only_what_is_not_predicted_is_asked():
    rows = [example("a", "ls"), example("b", "pwd"), example("c", "id"), example("d", "a text", None)]
    known = {
        rows[0].key: Prediction("ls", 0.5),
        rows[1].key: Prediction("pwd", None),
        rows[3].key: Prediction(None, 1.0),
    }
    assert missing(rows, known, SUITE) == [1, 2]
    assert missing(rows, known, ("chrf",)) == [2]
    assert missing(rows, {}, ("loss",)) == [0, 1, 2, 3]


def test_of_examples_that_were_not_asked_for_the_last_are_kept():
    rows = [example(str(n), f"ls {n}") for n in range(6)]
    known = {row.key: Prediction(row.reference, 0.5) for row in rows}
    found = kept(known, rows[:2], 3)
    assert list(found) == [row.key for row in (*rows[3:], *rows[:2])]
    assert kept(found, rows[4:], 3) == {row.key: known[row.key] for row in (rows[3], *rows[:2], *rows[4:])}
    assert list(kept(found, rows[4:], 1)) == [row.key for row in (rows[1], *rows[4:])]


def test_figures_follow_the_examples_and_leave_out_answers_to_plain_text():
    rows = [example("a", "ls"), example("b", "pwd"), example("d", "a text", None)]
    known = {
        rows[0].key: Prediction("ls\n", 0.5, 1),
        rows[1].key: Prediction("cd", 1.5, 1),
        rows[2].key: Prediction(None, 4.0, 6),
    }
    found = scores(rows, known, ("loss", "exact_match"))
    assert found == Scores({"loss": [0.5, 1.5, 4.0], "exact_match": [100.0, 0.0, None]}, [1, 1, 6])
    scored = metrics(found)
    assert (scored["loss"].value, scored["loss"].n, scored["loss"].higher_is_better) == (26 / 8, 3, False)
    assert (scored["exact_match"].value, scored["exact_match"].n) == (50, 2)
    assert [scored[name].unit for name in ("loss", "exact_match")] == ["nats per token", "percent"]


def test_a_metric_without_a_value_is_left_out():
    assert metrics(Scores({"chrf": [None, None], "loss": [1.0, 1.0]}, [1, 1])).keys() == {"loss"}


def test_differences_are_candidate_minus_champion_by_example():
    candidate = Scores({"loss": [1.0, 2.0], "chrf": [None, 9.0]}, [3, 1])
    champion = Scores({"loss": [2.0, 4.0], "chrf": [1.0, 6.0]}, [3, 1])
    found = differences(candidate, champion)
    assert found["loss"].value == (3 * 1 + 2) / 4 - (3 * 2 + 4) / 4
    assert (found["chrf"].value, found["chrf"].n) == (3.0, 1)


def test_each_rule_on_the_champion_is_tested_with_its_margin_and_weights():
    candidate = Scores({"loss": [1.0, 2.0, 1.5], "chrf": [None, 9.0, 8.0], "bleu": [None] * 3}, [3, 1, 2])
    champion = Scores({"loss": [2.0, 4.0, 1.5], "chrf": [1.0, 6.0, 8.0], "bleu": [None] * 3}, [3, 1, 2])
    rules = ("loss < champion", "chrf > champion - 4", "chrf > 4", "bleu > champion", "rouge_l > champion")
    found = paired_tests(candidate, champion, [parse(rule) for rule in rules])
    assert found.keys() == {"loss < champion", "chrf > champion - 4"}
    loss, chrf = found.values()
    assert (loss.p, loss.n, loss.differing, loss.exact) == (0.25, 3, 2, True)
    assert (chrf.p, chrf.n, chrf.differing, chrf.margin) == (0.25, 2, 1, -4)
    reversed_ = paired_tests(champion, candidate, [parse("loss < champion")])["loss < champion"]
    assert reversed_.p == 1


def test_rows_are_told_by_their_ids_whatever_their_order():
    rows = [example(f"record-{n}", "ls") for n in range(300)]
    told = held_out(rows)
    assert (told.rows, len(told.smallest)) == (300, 256)
    assert held_out(rows[::-1]) == told
    fewer = held_out(rows[:299])
    assert fewer.digest != told.digest
    assert len(set(fewer.smallest) & set(told.smallest)) >= 255
    assert held_out([example("record-1", "ls")]) == held_out([example("record-1", "another")])


def test_a_share_has_wilsons_interval_in_percent():
    found = metrics(Scores({"exact_match": [0.0] * 86}, [1] * 86))["exact_match"]
    assert (found.value, found.low) == (0, 0)
    assert found.high == pytest.approx(100 * 3.8416 / (86 + 3.8416), rel=1e-3)
