"""Which sentences can answer."""

from datetime import UTC, datetime

import numpy as np
import pytest

from tidegate.query.hit import Hit
from tidegate.query.sentence import SUPPORT, answering, sentences_of

AT = datetime(2026, 1, 1, tzinfo=UTC)


def hit(content: str) -> Hit:
    return Hit("team.note", {"id": 1}, 0, content, 0.2, AT, AT, "1.0.0", "strict", 0.8)


def answers(question: str, *rows: str, near: float | dict[str, float] = 0.8) -> list[str]:
    """Of rows whose sentences are all that near to the question, or as a word of theirs says."""
    sentences = sentences_of([hit(row) for row in rows])

    def nearness(text: str) -> float:
        return near if isinstance(near, float) else next((n for word, n in near.items() if word in text), 0.1)

    by = np.array([nearness(sentence.text) for sentence in sentences])
    vectors = np.stack([by, np.sqrt(1 - by**2)], axis=1).astype(np.float32)
    return [sentences[at].text for at in answering(question, np.array([1, 0], np.float32), sentences, vectors, 3)]


@pytest.mark.parametrize(
    "row",
    [
        "How do I get a refund?",
        '"Is there any refund?"',
        "how can I get a refund for my order",
        "Can anyone help with refunds",
        "Hello, I would like to know how refunds work.",
        "I don't know when refunds come",
        "How to get a refund",
        "Refunds",
    ],
)
def test_what_asks_or_says_nothing_new_is_no_answer(row: str):
    assert answers("How do I get a refund?", row) == []


@pytest.mark.parametrize(
    "row",
    [
        "Write to us for a refund.",
        "How to get a refund: write to us.",
        "What is sold is refunded.",
        "When an item is broken, we refund it.",
        "I got a refund by phone.",
    ],
)
def test_what_says_something_is(row: str):
    assert answers("How do I get a refund?", row) == [row]


def test_yes_or_no_may_be_answered_in_the_questions_words():
    assert answers("Is the shop open on Sundays?", "The shop is open on Sundays.") == ["The shop is open on Sundays."]
    assert answers("When is the shop open?", "The shop is open.") == []


def test_a_part_of_the_question_is_no_answer_to_it():
    assert answers("My parcel is late. What now?", "My parcel is late.") == []


def test_what_is_not_near_supports_nothing():
    assert answers("Who is it?", "Something else.", near=SUPPORT - 0.01) == []
    assert answers("Who is it?", "Something else.", near=SUPPORT + 0.01) == ["Something else."]


def test_a_sentence_takes_its_subject_from_its_row():
    near = {"camera": 0.66, "Fixed": 0.35}
    assert answers("Which version?", "The camera crashes. Fixed in 4.3.", near=near)[-1] == "Fixed in 4.3."
    assert answers("Which version?", "The camera crashes.", "Fixed in 4.3.", near=near) == ["The camera crashes."]


def test_what_stands_below_the_question_answers_it_unless_it_is_the_askers():
    near = {"refund": 0.9}
    assert answers("How do I get a refund?", "How do I get a refund?\nWrite to us.", near=near) == ["Write to us."]
    assert answers("How do I get a refund?", "How do I get a refund?\nI wait for weeks.", near=near) == []
