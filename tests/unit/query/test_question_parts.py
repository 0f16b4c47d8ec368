"""What is asked in one breath, taken apart."""

import pytest

from tidegate.query.question_parts import parts_of


@pytest.mark.parametrize(
    ("question", "parts"),
    [
        ("What is the refund period and who is the CEO?", ["What is the refund period", "who is the CEO"]),
        ("how do refunds work, and who pays the postage?", ["how do refunds work", "who pays the postage"]),
        ("Do gift cards expire? Who founded the company?", ["Do gift cards expire", "Who founded the company"]),
        ("Is it open on Sundays and are dogs allowed?", ["Is it open on Sundays", "are dogs allowed"]),
        (
            "Who is Ann, what is a loan and in which year was it?",
            ["Who is Ann", "what is a loan", "in which year was it"],
        ),
        ("Please tell me what the price is\nand who sets a price", ["what the price is", "who sets a price"]),
    ],
)
def test_each_clause_that_asks_is_a_part(question: str, parts: list[str]):
    assert [part.text for part in parts_of(question)] == parts


@pytest.mark.parametrize(
    "question",
    [
        "How do I get a refund?",
        "Who are the chair and the treasurer?",
        "When and where do we meet?",
        "how do refunds work and why",
        "What should I do when I lost the card and have no receipt?",
        "What happens when it is late and when I wait?",
        "What if it is broken and is new?",
        "People who bought and who complained",
        "My parcel is late. What should I do?",
        "bake sundays",
        "?",
        " ",
        "and who? " + "\t" * 50_000,
    ],
)
def test_what_asks_once_stays_whole(question: str):
    assert [part.text for part in parts_of(question)] == [question]


def test_what_points_back_is_looked_for_with_what_it_points_to():
    assert [part.full for part in parts_of("What is the Basic plan and how much does it cost?")] == [
        "What is the Basic plan",
        "how much does it cost (What is the Basic plan)",
    ]


def test_no_question_has_more_than_five_parts():
    assert len(parts_of("who is Ann? " * 100)) == 5


def test_a_long_text_is_no_question_of_parts():
    """Nobody waits for its parts, whatever it is made of."""
    for text in ("who is Ann? " * 2000, "?" * 100_000):
        assert [part.text for part in parts_of(text)] == [text]
    assert len(parts_of("?" * 1_999)) == 1
