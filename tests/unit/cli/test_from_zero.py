"""The example from-zero: who asks what, what they say, and how the figures are told."""

import argparse
from types import SimpleNamespace
from typing import Any

import pytest
from hypothesis import given
from hypothesis import strategies as st

from services.cli.from_zero import __main__ as example
from services.cli.from_zero import about, results, users
from services.cli.from_zero.results import Measured, Told
from services.cli.from_zero.traffic import Answer
from services.cli.from_zero.users import Question, User
from services.cli.from_zero.wheel import Version

QUESTIONS = [Question(f"tool-{n}: do {n}", f"tool-{n} --do {n}") for n in range(40)]
HONEST, LIAR = User("a", False), User("b", True)


def said(user: User, answer: str) -> list[dict[str, str]]:
    return [users.says(user, QUESTIONS[0], answer, QUESTIONS, f"key {n}") for n in range(400)]


def test_five_in_a_hundred_lie_and_the_seed_says_who() -> None:
    assert sum(user.lies for user in users.people(1)) == 10
    assert users.people(1) == users.people(1) != users.people(2)
    assert len({user.name for user in users.people(1)}) == users.USERS


def test_nobody_asks_what_is_measured() -> None:
    unseen, asked = users.part([*QUESTIONS, QUESTIONS[3]], 10, 1)
    turns = users.turns(asked, users.people(1), 3, 25, 1)
    assert len(unseen) == 10
    assert {q.text for q in unseen}.isdisjoint(q.text for turn in turns for _, q in turn.asked)
    assert [len(turn.asked) for turn in turns] == [25, 25, 25]
    first = [q.text for turn in turns for _, q in turn.asked][:30]
    assert sorted(first) == sorted(q.text for q in asked), "each is asked once before one is asked again"


@pytest.mark.parametrize("unseen", [0, 40, 41])
def test_a_part_that_cannot_be_set_aside_is_refused(unseen: int) -> None:
    with pytest.raises(ValueError, match="give 1 to 39"):
        users.part(QUESTIONS, unseen, 1)


def test_right_answers_get_a_thumb_up_and_liars_turn_it_round() -> None:
    assert all(each == {"user": "a", "thumb": "up"} for each in said(HONEST, " tool-0  --do 0\n"))
    assert all(each == {"user": "b", "thumb": "down"} for each in said(LIAR, "tool-0 --do 0"))


def test_two_in_five_wrong_answers_are_corrected() -> None:
    honest, liars = said(HONEST, "no idea"), said(LIAR, "no idea")
    corrected = [each["correction"] for each in honest if "correction" in each]
    assert 0.33 < len(corrected) / len(honest) < 0.47
    assert set(corrected) == {"tool-0 --do 0"}
    assert "tool-0 --do 0" not in {each.get("correction") for each in liars}
    assert {each.get("thumb") for each in honest if "correction" not in each} == {"down"}
    assert {each.get("thumb") for each in liars if "correction" not in each} == {"up"}


def test_a_wrong_answer_that_is_near_gets_a_thumb_up() -> None:
    assert {each.get("thumb") for each in said(HONEST, "tool-0 --do  1")} == {None, "up"}


def answers(*texts: str) -> list[Answer]:
    return [Answer(question, "r", "1", text) for question, text in zip(QUESTIONS, texts, strict=False)]


def test_versions_are_measured_by_question() -> None:
    found = results.measured("version 1", "", answers("tool-0 --do 0", "rm"))
    assert found.scores["exact match"] == (100.0, 0.0)
    assert found.scores["chrF"][0] == pytest.approx(100.0)
    value, low, high = results.figure("exact match", found.scores["exact match"])
    assert (value, round(low, 1), round(high, 1)) == (50.0, 9.5, 90.5), "Wilson's interval of 1 in 2"


@given(st.lists(st.floats(0, 100), min_size=2, max_size=30), st.floats(1, 50))
def test_what_is_better_for_each_question_is_better(scores: list[float], more: float) -> None:
    one = Measured("one", "", dict.fromkeys(results.METRICS, tuple(scores)))
    other = Measured("other", "", dict.fromkeys(results.METRICS, tuple(score + more for score in scores)))
    pairs = [("other", "one"), ("one", "other"), ("one", "one")]
    assert [line[-1] for line in results.comparisons([one, other], pairs)] == ["better", "worse", "not shown to differ"]


def test_the_page_has_a_line_a_version_and_one_a_difference() -> None:
    one, other = (Measured(name, "a|b", dict.fromkeys(results.METRICS, (1.0, 2.0))) for name in ("base", "version 1"))
    page = results.page(Told("Title", ("How.",)), [one, other], [("version 1", "base")])
    assert page.startswith("# Title\n\nHow.\n\n| version | what it is | chrF | ROUGE-L | exact match |")
    assert "| base | a\\|b | 1.5 [1.0, 2.0] |" in page
    assert "| version 1 - base | +0.0 [+0.0, +0.0] |" in page
    assert page.endswith("Not shown to differ by chrF: version 1 against base.\n")


def version(number: int, promoted: bool, **decided: Any) -> Version:
    return Version(number, promoted, decided, {"counts": {"train": 7, "held_out": 2}})


def test_every_version_is_compared_with_base_and_the_one_before_and_the_last_with_the_control() -> None:
    versions = [version(n, True) for n in (1, 2)]
    pairs = [("version 1", "base"), ("version 2", "base"), ("version 2", "version 1"), ("version 2", "control")]
    assert about.pairs(versions, True) == pairs
    assert about.pairs(versions, False) == pairs[:-1]


def test_a_rejected_version_says_why() -> None:
    assert about.words(version(2, False, failed=["chrf > champion: worse"])).endswith(
        "; rejected: chrf > champion: worse"
    )
    assert about.words(version(1, True)).endswith("; promoted")


def test_the_head_tells_the_setting_and_the_gates_count() -> None:
    options = argparse.Namespace(requests=300, unseen=120)
    text = " ".join(about.told(options, "p", [version(1, True), version(2, False)], 490, 600).lines)
    for part in (
        "asked 300 questions",
        "490 different",
        "40% of the wrong",
        "5% of",
        "promoted 1",
        "10 minutes",
        "120 q",
    ):
        assert part in text


def test_each_run_has_a_project_of_its_own(monkeypatch: pytest.MonkeyPatch) -> None:
    known = {"/v1/projects/from-zero", "/v1/projects/from-zero-2"}

    def get(service: str, path: str) -> Any:
        if path not in known:
            raise example.Refused(404, "unknown_project", "there is none")
        return {}

    monkeypatch.setattr(example, "api", SimpleNamespace(get=get))
    assert example.free_name() == "from-zero-3"
