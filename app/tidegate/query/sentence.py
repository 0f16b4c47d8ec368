"""The sentences of hits that can answer a question: what only asks, or repeats the question, cannot."""

import re
from collections.abc import Sequence
from dataclasses import dataclass

import numpy as np

from tidegate.index.embedding.embedder import Vectors
from tidegate.query.hit import Hit
from tidegate.query.question_parts import asks_for_a_fact, plain, words

SUPPORT = 0.4
"""Nearness (mean of the sentence's own and its row's) that an answer has at least, by the local model; see
tests/integration/test_extracted_answers.py."""
SAME = 0.95
_CONTEXT = 0.5
_WITHIN = 0.25
"""How much less near than the best a further sentence may be."""
_BORDER = re.compile(r"(?<=[.!?])\s+|\n+")
_ASKS = re.compile(
    r"(?:how|what|when|where|who|whom|why|which)(?:'s)?\s+"
    r"(?:do|does|did|can|could|is|are|was|will|would|should|shall|may)\s+"
    r"(?:i|we|you|it|they|he|she|there|the|an?|my|our|your|this|that|one|someone|anyone)\b|"
    r"(?:can|could|do|does|did|is|are|will|would|should|may|has|have)\s+"
    r"(?:i|we|you|it|they|there|anyone|anybody|someone|somebody)\b|"
    r".*\b(?:(?:want|like|need|love) to (?:know|ask)|wonder(?:ing)?|(?:don't|do not) know|tell me|no idea) "
    r"(?:how|what|when|where|who|why|which|if|whether)\b",
    re.IGNORECASE,
)
_ASKER = re.compile(r"\b(?:i|my|me|mine)\b", re.IGNORECASE)


@dataclass(frozen=True, slots=True)
class Sentence:
    """Attributes:
    source: which hit it is of.
    asks: it ends with a question mark, or is worded as a question.
    """

    source: int
    text: str
    asks: bool


def sentences_of(hits: Sequence[Hit]) -> list[Sentence]:
    """The sentences of the hits, in order."""
    return [
        Sentence(number, text, text.rstrip("\"')”’ ").endswith("?") or _ASKS.match(text) is not None)
        for number, hit in enumerate(hits)
        for part in _BORDER.split(hit.content)
        if len(text := part.strip()) > 1
    ]


def answering(question: str, asked: Vectors, sentences: Sequence[Sentence], vectors: Vectors, most: int) -> list[int]:
    """Where the sentences stand that answer a question, the nearest first; none where none is near enough.

    A sentence is as near as the mean of itself and of its row, which is the mean of the row's sentences that ask
    nothing: "It takes five days." gets its subject from its neighbours. What stands below the question itself, as in
    a list of questions and answers, has the question for a row, unless somebody speaks there of "I".

    Args:
        asked: the question's vector, `(dimension,)`.
        vectors: of the sentences, `(n, dimension)`.
    """
    own = vectors @ asked
    said, known, fact = plain(question), words(question), asks_for_a_fact(question)
    able: dict[int, float] = {}
    rows: dict[int, list[int]] = {}
    below: dict[int, float] = {}
    heading: tuple[int, float] | None = None
    for at, sentence in enumerate(sentences):
        nothing_new = plain(sentence.text) in said or (fact and (words(sentence.text) <= known or own[at] >= SAME))
        if sentence.asks or nothing_new:
            heading = (sentence.source, float(own[at]))
            continue
        rows.setdefault(sentence.source, []).append(at)
        if heading is not None and heading[0] == sentence.source and not _ASKER.search(sentence.text):
            below[at] = heading[1]
    for places in rows.values():
        mean = np.sum(vectors[places], axis=0)
        row = float(mean @ asked / (np.linalg.norm(mean) or 1.0))
        for at in places:
            able[at] = (1 - _CONTEXT) * float(own[at]) + _CONTEXT * max(row, below.get(at, row))
    best = sorted(able, key=lambda at: -able[at])
    return [at for at in best if able[at] >= max(SUPPORT, able[best[0]] - _WITHIN)][:most]
