from dataclasses import replace

import pytest

from contracts.records import RecordInvalid
from contracts.types import ModelRef
from services.feedback.domain.records import Request, as_record, record_id
from services.feedback.domain.signals import Feedback, Signal, signals

CHAT = Request(
    "r1",
    "shell-copilot",
    ModelRef(name="shell-copilot", version=1),
    messages=({"role": "user", "content": "tar: list an archive"},),
    prompt=None,
    output="tar",
)


def correction(text: str = "tar -tf a.tar") -> Signal:
    return signals(Feedback(request_id="r1", correction=text))[0]


def test_a_correction_becomes_the_conversation_with_the_right_answer() -> None:
    record = as_record(correction(), CHAT)
    assert record is not None
    assert record.model_dump() == {
        "messages": (
            {"role": "user", "content": "tar: list an archive"},
            {"role": "assistant", "content": "tar -tf a.tar"},
        )
    }


def test_a_comparison_becomes_a_preference() -> None:
    [signal] = signals(Feedback(request_id="r1", chosen="good", rejected="bad"))
    record = as_record(signal, CHAT)
    assert record is not None
    assert record.model_dump() == {
        "prompt": ({"role": "user", "content": "tar: list an archive"},),
        "chosen": ({"role": "assistant", "content": "good"},),
        "rejected": ({"role": "assistant", "content": "bad"},),
    }


def test_a_thumb_is_no_record() -> None:
    [thumb] = signals(Feedback(request_id="r1", thumb="up"))
    assert as_record(thumb, CHAT) is None
    assert record_id(thumb) is None


def test_a_later_correction_is_a_revision_and_another_comparison_another_record() -> None:
    assert record_id(correction("a")) == record_id(correction("b")) == "feedback-r1"
    pairs = [signals(Feedback(request_id="r1", chosen=c, rejected="x"))[0] for c in "ab"]
    ids = {record_id(p) for p in pairs}
    assert len(ids) == 2
    assert all(i is not None and i.startswith("comparison-r1-") for i in ids)


def test_a_plain_completion_is_one_user_turn() -> None:
    record = as_record(correction("b"), replace(CHAT, messages=None, prompt="a"))
    assert record is not None
    assert record.model_dump()["messages"][0] == {"role": "user", "content": "a"}


def test_openai_shapes_of_turns_are_understood() -> None:
    turns = (
        {"role": "developer", "content": "Be short.", "name": "x"},
        {"role": "user", "content": [{"type": "text", "text": "a"}, {"type": "text", "text": "b"}]},
        {"role": "assistant", "content": None},
    )
    record = as_record(correction("c"), replace(CHAT, messages=turns))
    assert record is not None
    assert [(m["role"], m["content"]) for m in record.model_dump()["messages"]] == [
        ("system", "Be short."),
        ("user", "ab"),
        ("assistant", ""),
        ("assistant", "c"),
    ]


@pytest.mark.parametrize(
    "turns",
    [
        ({"role": "user", "content": [{"type": "image_url", "image_url": {}}]},),
        ({"role": "wizard", "content": "a"},),
        ({"role": "user", "content": "x" * 100_001},),
        tuple({"role": "user", "content": "x" * 99_000} for _ in range(10)),
    ],
)
def test_what_fits_no_record_is_refused(turns: tuple[dict[str, object], ...]) -> None:
    with pytest.raises(RecordInvalid):
        as_record(correction(), replace(CHAT, messages=turns))
