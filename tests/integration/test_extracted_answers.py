"""Answers without a language model, on a labelled set: answerable, unanswerable, half of both, and repeated questions."""

from collections.abc import Iterator

import pytest
from tests.conftest import Tide
from tests.integration.library import ASKED, ROWS
from tests.integration.notes import Notes, notes_of
from tests.integration.surface import Opened

from tidegate.query.answer import NO_SUPPORT, Answer
from tidegate.query.async_client import AsyncClient
from tidegate.query.client import Client
from tidegate.settings import Settings

RIGHT = 24
"""Of 28. What took the nearest three sentences, whatever they are, had 16; this has 26."""


@pytest.fixture
def notes(tide: Tide) -> Iterator[Notes]:
    with notes_of(tide) as made:
        made.add(*ROWS)
        yield made


@pytest.fixture(params=[Client, AsyncClient], ids=["sync", "async"])
def client(request: pytest.FixtureRequest, notes: Notes) -> Iterator[Opened]:
    settings = Settings(_env_file=None)
    with Opened(request.param, notes.reader(), settings, embedders=notes.tide.embedders) as opened:
        yield opened


def right(answer: Answer, says: tuple[str, ...], lacks: tuple[str, ...]) -> bool:
    if not says:
        return (answer.text, answer.citations) == (NO_SUPPORT, ()) and bool(answer.not_found)
    return (
        all(text in answer.text for text in says)
        and len(answer.not_found) == len(lacks)
        and all(word in part for word, part in zip(lacks, answer.not_found, strict=True))
    )


def test_most_of_a_labelled_set_is_answered_right(client: Opened) -> None:
    wrong = [(question, answer) for question, *labels in ASKED if not right(answer := client.ask(question), *labels)]
    assert len(ASKED) - len(wrong) >= RIGHT, wrong


def test_no_question_is_an_answer(client: Opened) -> None:
    for question in ("How do I renew a book?", "Who runs the summer school?", "Can I bring my dog?"):
        assert "?" not in client.ask(question).text
    answer = client.ask("Who runs the summer school?")
    assert (answer.text, answer.citations, answer.not_found) == (NO_SUPPORT, (), ("Who runs the summer school?",))


def test_parts_without_support_are_named(client: Opened) -> None:
    answer = client.ask("Who is the mayor, and who leads the children's department?")
    assert answer.text == "Mrs Okafor leads the children's department. [1]"
    assert answer.not_found == ("Who is the mayor",)
    both = "Who is the mayor and what is the boiling point of lead?"
    assert client.ask(both).not_found == (both,)


def test_a_streamed_answer_is_the_same(client: Opened) -> None:
    for question in ("How do I renew a book?", "Where do I print? Can I bring my dog?", "Which bus stops here?"):
        pieces, answer = client.read(question)
        assert answer == client.ask(question)
        assert "".join(pieces) == answer.text


def test_each_part_looks_for_rows_of_its_own(client: Opened) -> None:
    answer = client.ask("How do I reserve a meeting room and how long are laptops lent?", 1)
    assert len(answer.citations) == 2
    assert answer.not_found == ()
