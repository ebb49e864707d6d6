"""What of feedback is learnt, held or left out: the pure rules, and normal forms of texts."""

from datetime import UTC, datetime, timedelta
from typing import Any

import pytest
from hypothesis import given
from hypothesis import strategies as st

from contracts.learning import Learning, SourceName
from contracts.project import ProjectSpec
from contracts.types import ModelRef
from services.feedback.domain.examples import Example, examples, opinions_on
from services.feedback.domain.normal_form import (
    answer_digest,
    nearly_same,
    question_digest,
    sketch,
    user_digest,
)
from services.feedback.domain.policy import Seen, judged, wanted
from services.feedback.domain.records import Request
from services.feedback.domain.signals import Feedback, signals

NOW = datetime(2026, 1, 31, 12, tzinfo=UTC)


def request(content: Any = "tar: list", output: str = "tar", **more: Any) -> Request:
    messages = ({"role": "system", "content": "be brief"}, {"role": "user", "content": content})
    return Request("r1", "p", ModelRef(name="p", version=2), messages, None, output, **more)


def made(on: Request | None = None, learning: Learning | None = None, **said: Any) -> tuple[Example, ...]:
    [*given] = signals(Feedback.model_validate({"request_id": "r1", **said}))
    policy = learning or Learning()
    return tuple(example for signal in given for example in examples(signal, on or request(), policy, NOW))


def learning(**sources: Any) -> Learning:
    return Learning.model_validate(sources)


def test_correction_is_a_row_and_a_pair_with_its_provenance() -> None:
    row, pair = made(correction="tar -t", user="ann@example.com")
    assert [(e.source, e.example_id) for e in (row, pair)] == [("corrections", "feedback-r1"), ("pairs", "pair-r1")]
    raw = pair.record.model_dump(mode="json")
    assert (raw["chosen"][0]["content"], raw["rejected"][0]["content"]) == ("tar -t", "tar")
    assert (row.request_id, row.model.version, row.user) == ("r1", 2, user_digest("p", "ann@example.com"))
    assert "ann" not in repr(row)
    assert user_digest("q", "ann@example.com") != row.user


def test_correction_that_says_what_was_answered_is_no_pair() -> None:
    assert [e.source for e in made(request(output="tar  -t"), correction="tar -t")] == ["corrections"]
    assert [e.source for e in made(request(output=""), correction="tar -t")] == ["corrections"]


def test_thumbs_and_scores_at_the_ends_are_labels() -> None:
    assert [(e.source, e.record.model_dump()["label"]) for e in made(thumb="down")] == [("thumbs", False)]
    up, approved = made(thumb="up")
    assert (up.source, approved.source, approved.text) == ("thumbs", "approved", "tar")
    assert [(e.source, e.record.model_dump()["label"]) for e in made(score=0.9)] == [("scores", True)]
    assert [(e.source, e.record.model_dump()["label"]) for e in made(score=0.1)] == [("scores", False)]
    assert made(score=0.5) == ()
    assert made(text="thanks") == ()
    assert made(request(output=" "), thumb="up") == (), "nothing was answered that could be learnt"


def test_request_that_makes_no_record_makes_no_example() -> None:
    assert made(request(content=[{"type": "image_url"}]), thumb="up") == ()


@pytest.mark.parametrize(
    ("method", "source", "share"),
    [
        ("sft", "corrections", 1),
        ("sft", "comparisons", 1),
        ("sft", "pairs", 0),
        ("sft", "thumbs", 0),
        ("sft", "approved", 1),
    ],
)
def test_defaults_are_what_the_method_learns_from(method: str, source: SourceName, share: float) -> None:
    assert Learning().share(source, (method,)) == share


def test_weight_is_a_share_by_identity() -> None:
    policy = learning(corrections={"weight": 0.25})
    [first, _] = made(correction="x")
    kept = [wanted(renamed(first, f"feedback-{n}"), policy, ("sft",)) for n in range(2000)]
    assert 430 < sum(kept) < 570
    assert kept == [wanted(renamed(first, f"feedback-{n}"), policy, ("sft",)) for n in range(2000)]
    half = learning(corrections={"weight": 0.5})
    more = [wanted(renamed(first, f"feedback-{n}"), half, ("sft",)) for n in range(2000)]
    assert all(b for a, b in zip(kept, more, strict=True) if a), "a smaller share is a part of a larger one"


def renamed(example: Example, example_id: str) -> Example:
    from dataclasses import replace

    return replace(example, example_id=example_id)


def test_length_is_a_filter() -> None:
    policy = learning(corrections={"min_chars": 3, "max_chars": 5})
    lengths = [n for n in range(1, 8) if wanted(made(correction="x" * n)[0], policy, ("sft",))]
    assert lengths == [3, 4, 5]


@pytest.mark.parametrize(
    ("policy", "seen", "reason"),
    [
        ({}, Seen(), None),
        ({"corrections": {"per_user": 3}}, Seen(by_user=2), None),
        ({"corrections": {"per_user": 3}}, Seen(by_user=3), "per_user"),
        ({"corrections": {"per_day": 3}}, Seen(of_source=2), None),
        ({"corrections": {"per_day": 3}}, Seen(of_source=3), "per_day"),
        ({"corrections": {"agree": 2}}, Seen(agreeing=2), None),
        ({"corrections": {"agree": 2}}, Seen(agreeing=1), "agree"),
        ({"alike": 4}, Seen(alike=3), None),
        ({"alike": 4}, Seen(alike=4), "alike"),
        ({}, Seen(agreeing=2, weight=1.5, contesting=1.4), None),
        ({}, Seen(agreeing=2, weight=1.5, contesting=1.5), "contested"),
        ({"contested": "learn"}, Seen(agreeing=1, contesting=9), None),
    ],
)
def test_what_is_doubtful_is_held_with_its_reason(policy: dict[str, Any], seen: Seen, reason: str | None) -> None:
    verdict = judged(made(correction="x")[0], learning(**policy), seen, NOW)
    assert (verdict.status, verdict.reason) == ("held" if reason else "released", reason)
    assert (verdict.detail is None) == (reason is None)


def test_wait_comes_first_and_ends() -> None:
    policy, [row, _] = learning(wait="1h"), made(correction="x")
    waiting = judged(row, policy, Seen(contesting=5), NOW + timedelta(minutes=59))
    assert (waiting.reason, waiting.until) == ("wait", NOW + timedelta(hours=1))
    assert judged(row, policy, Seen(), NOW + timedelta(hours=1)).status == "released"


def test_opinions_are_for_the_right_answer_and_against_the_given() -> None:
    [signal] = signals(Feedback(request_id="r1", correction="tar -t"))
    given = answer_digest("tar")
    assert dict(opinions_on(signal, given, Learning())) == {answer_digest("tar -t"): True, given: False}
    [down] = signals(Feedback(request_id="r1", thumb="down"))
    assert dict(opinions_on(down, given, Learning())) == {given: False}


def test_questions_are_the_same_without_regard_to_case_space_and_instruction() -> None:
    bare = Request("r2", "p", ModelRef(name="p", version=1), None, "Tar:  LIST ?", "x")
    assert question_digest(request()) == question_digest(bare)
    assert question_digest(request("tar: lists")) != question_digest(bare)
    earlier = ({"role": "user", "content": "hi"}, {"role": "assistant", "content": "yes?"})
    assert question_digest(request()) != question_digest(
        Request(
            "r3", "p", ModelRef(name="p", version=1), (*earlier, {"role": "user", "content": "tar: list"}), None, "x"
        )
    )


def test_answers_differ_by_case_and_not_by_space() -> None:
    assert answer_digest("tar -C  x\n") == answer_digest("tar -C x")
    assert answer_digest("tar -c x") != answer_digest("tar -C x")


WORDS = st.lists(st.sampled_from([f"w{n}" for n in range(80)]), max_size=60).map(" ".join)


@given(WORDS, WORDS)
def test_nearly_the_same_is_jaccard_of_the_words(one: str, other: str) -> None:
    a, b = set(one.split()), set(other.split())
    union = a | b
    if len(union) <= 64:
        expected = not union or len(a & b) / len(union) >= 0.8
        assert nearly_same(sketch(one), sketch(other)) == expected


@pytest.mark.parametrize(
    ("section", "said"),
    [
        ({"corrections": {"weight": 2}}, "less than or equal to 1"),
        ({"corrections": {"min_chars": 9, "max_chars": 3}}, "nothing would be learnt"),
        ({"scores": {"low": 0.9, "high": 0.8}}, "to be less than"),
        ({"corrections": {"wieght": 1}}, "wieght"),
        ({"wait": "40d"}, "30 days"),
    ],
)
def test_impossible_policies_are_refused(section: dict[str, Any], said: str) -> None:
    with pytest.raises(ValueError, match=said):
        ProjectSpec.model_validate({"project": "p", "base": "b", "learn": section})


def test_a_project_without_the_section_has_the_revision_it_had() -> None:
    assert "learn" not in ProjectSpec(project="p", base="b").model_dump()
