"""The simulated users: who asks what, and what they say of the answer. Pure; the same seed gives the same people."""

import random
from collections.abc import Sequence
from dataclasses import dataclass

from services.lm.scoring.metrics import chrf, normalised

USERS = 200
LIARS = 0.05
"""Share of the users who say the contrary of what they think."""
CORRECTS = 0.4
"""Share of the wrong answers that are corrected."""
GOOD = 60.0
"""chrF (0 to 100) of an answer and its reference from which on a wrong answer gets a thumb up all the same."""


@dataclass(frozen=True, slots=True)
class Question:
    """What is asked, and what the right answer is."""

    text: str
    reference: str


@dataclass(frozen=True, slots=True)
class User:
    """Who asks."""

    name: str
    lies: bool


@dataclass(frozen=True, slots=True)
class Turn:
    """What is asked between two versions: who asks what."""

    asked: tuple[tuple[User, Question], ...]


def people(seed: int) -> list[User]:
    """The users, LIARS of whom lie."""
    liars = set(random.Random(seed).sample(range(USERS), round(USERS * LIARS)))
    return [User(f"user-{n:03d}", n in liars) for n in range(USERS)]


def part(questions: Sequence[Question], unseen: int, seed: int) -> tuple[list[Question], list[Question]]:
    """(those that nobody asks, those that users ask), in random order; a text that occurs twice is in one of them.

    Raises:
        ValueError: there are not enough questions.
    """
    by_text = {question.text: question for question in questions}
    mixed = list(by_text.values())
    random.Random(seed).shuffle(mixed)
    if not 0 < unseen < len(mixed):
        raise ValueError(f"{unseen} of {len(mixed)} questions cannot be set aside; give 1 to {len(mixed) - 1}")
    return mixed[:unseen], mixed[unseen:]


def turns(questions: Sequence[Question], users: Sequence[User], count: int, requests: int, seed: int) -> list[Turn]:
    """`count` turns of `requests` each: the questions in random order, again and again, each asked by any user."""
    dice = random.Random(seed)
    order: list[Question] = []
    while len(order) < count * requests:
        again = list(questions)
        dice.shuffle(again)
        order += again
    asked = [(dice.choice(users), question) for question in order[: count * requests]]
    return [Turn(tuple(asked[n * requests : (n + 1) * requests])) for n in range(count)]


def says(user: User, question: Question, answer: str, questions: Sequence[Question], key: str) -> dict[str, str]:
    """Feedback on an answer, as the body of POST /v1/feedback without the request.

    A right answer gets a thumb up. A wrong one is corrected in CORRECTS of the cases; else it gets a thumb up where its chrF is
    GOOD or more, and a thumb down. Who lies corrects to another question's answer, and turns thumbs round. `key` decides what is
    by chance.
    """
    dice = random.Random(key)
    right = normalised(answer) == normalised(question.reference)
    if not right and dice.random() < CORRECTS:
        other = dice.choice([each for each in questions if each.reference != question.reference])
        return {"user": user.name, "correction": other.reference if user.lies else question.reference}
    good = right or chrf(answer, question.reference) >= GOOD
    return {"user": user.name, "thumb": "up" if good != user.lies else "down"}
