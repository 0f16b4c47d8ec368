"""Extracted answers: which sentences are taken, and from what."""

from collections.abc import Sequence
from datetime import UTC, datetime
from typing import Any

import numpy as np

from tidegate.index.embedding.embedder import Vectors
from tidegate.query.answer import MAX_DISTANCE, NO_SUPPORT, Answer, extract
from tidegate.query.hit import Hit
from tidegate.query.question_parts import parts_of
from tidegate.query.run import Stream
from tidegate.query.steps import Effect, Work

AT = datetime(2026, 1, 1, tzinfo=UTC)
NOTHING = Answer(NO_SUPPORT, (), AT, None, ("q",))


def hit(number: int, content: str, distance: float | None = 0.2) -> Hit:
    return Hit("team.note", {"id": number}, 0, content, distance, AT, AT, "1.0.0", "strict", 0.8)


class ByLength:
    """Near to the question is what is short: enough to see what is chosen."""

    def embed(self, texts: Sequence[str]) -> Vectors:
        near = np.array([1.0] + [0.99 ** len(text) for text in texts[1:]])
        return np.stack([near, np.sqrt(1 - near**2)], axis=1).astype(np.float32)


def perform(effect: Effect) -> Any:
    assert isinstance(effect, Work)
    return effect.function()


def extracted(*hits: Hit) -> Answer:
    stream = Stream(extract("q", parts_of("q"), hits, ByLength(), AT), perform)  # type: ignore[arg-type]
    pieces = list(stream)
    assert "".join(pieces) == stream.answer.text
    return stream.answer


def test_the_nearest_three_sentences_each_with_its_citation():
    answer = extracted(hit(1, "Short."), hit(2, "No use at all to anybody here."), hit(3, "Ab! Cd."))
    assert answer.text == "Short. [1] Ab! [2] Cd. [2]"
    assert [cited.key["id"] for cited in answer.citations] == [1, 3]
    assert (answer.as_of, answer.model, answer.not_found) == (AT, None, ())


def test_every_word_is_a_rows():
    answer = extracted(hit(1, "One.\nTwo\n\nThree [7]."))
    assert answer.text == "One. [1] Two [1] Three [7]. [1]"


def test_what_is_too_far_supports_nothing():
    assert extracted(hit(1, "Near.", MAX_DISTANCE)).citations
    assert extracted(hit(1, "Has the words.", None)).citations
    for hits in ((), (hit(1, "Far.", MAX_DISTANCE + 0.01),)):
        assert extracted(*hits) == NOTHING


def test_a_source_without_a_sentence_supports_nothing():
    assert extracted(hit(1, "."), hit(2, "\n-\n")) == NOTHING
