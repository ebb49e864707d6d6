import pytest
from pydantic import ValidationError

from services.feedback.domain.signals import Feedback, signals


def test_one_signal_a_kind() -> None:
    feedback = Feedback(request_id="r1", thumb="down", correction="ls", text="wrong", user="u")
    assert [s.kind for s in signals(feedback)] == ["correction", "thumb", "text"]
    assert all(s.request_id == "r1" and s.user == "u" for s in signals(feedback))


def test_a_repeat_is_the_same_signal_and_anything_else_is_another() -> None:
    def identity(**said: object) -> str:
        return signals(Feedback.model_validate({"request_id": "r1", "thumb": "up"} | said))[0].signal_id

    assert identity() == identity()
    assert len({identity(), identity(user="u"), identity(thumb="down"), identity(request_id="r2")}) == 4


def test_a_comparison_carries_both_sides() -> None:
    [signal] = signals(Feedback(request_id="r1", chosen="a", rejected="b"))
    assert (signal.kind, signal.chosen, signal.rejected) == ("comparison", "a", "b")


@pytest.mark.parametrize(
    ("said", "message"),
    [
        ({}, "at least one"),
        ({"chosen": "a"}, "both 'chosen' and 'rejected'"),
        ({"rejected": "a"}, "both 'chosen' and 'rejected'"),
        ({"chosen": "a", "rejected": "a"}, "same text"),
        ({"score": 1.5}, "less than or equal to 1"),
        ({"score": float("nan")}, "finite"),
        ({"thumb": "sideways"}, "'up' or 'down'"),
        ({"correction": "  "}, "blank"),
        ({"text": "a\x00b"}, "NUL"),
        ({"thumb": "up", "stars": 5}, "Extra inputs"),
        ({"thumb": "up", "request_id": "a\nb"}, "pattern"),
    ],
)
def test_what_says_nothing_or_nonsense_is_refused(said: dict[str, object], message: str) -> None:
    with pytest.raises(ValidationError, match=message):
        Feedback.model_validate({"request_id": "r1"} | said)
