"""Hits to answers, always with citations: by a language model where one is set, else extracted."""

import secrets
from collections.abc import Sequence
from contextlib import suppress
from dataclasses import dataclass
from datetime import datetime

from tidegate.errors import UsageError
from tidegate.index.embedding.embedder import Embedder
from tidegate.query.citing import Citing
from tidegate.query.hit import Hit
from tidegate.query.language_model import LanguageModel
from tidegate.query.prompt import Prompt, prompt
from tidegate.query.question_parts import Part
from tidegate.query.sentence import answering, sentences_of
from tidegate.query.steps import Piece, Steps, work

NO_SUPPORT = "Nothing that you may see answers this."
MAX_DISTANCE = 0.75
_SENTENCES = 3


@dataclass(frozen=True, slots=True)
class Answer:
    """An answer and what it rests on.

    Attributes:
        citations: the hits that the text cites, in the order of their numbers; empty: no support was found.
        as_of: every change committed before it was in the index; None where that is not known yet.
        model: the language model, None for an extracted answer.
        not_found: what was asked and nothing answers: the question, or the parts of it without an answer.
    """

    text: str
    citations: tuple[Hit, ...]
    as_of: datetime | None
    model: str | None
    not_found: tuple[str, ...] = ()


def supported(hits: Sequence[Hit]) -> list[Hit]:
    """The hits that are near enough to support an answer, or have the question's words."""
    return [hit for hit in hits if hit.distance is None or hit.distance <= MAX_DISTANCE]


def extract(
    question: str, parts: Sequence[Part], hits: Sequence[Hit], embedder: Embedder, as_of: datetime | None
) -> Steps[Answer]:
    """The sentences of the hits that answer the question's parts, word for word, each with its citation.

    Which ones do, see tidegate.query.sentence. Parts that none answers are `not_found`.
    """
    sources = supported(hits)
    sentences = sentences_of(sources)
    if not sentences:
        return (yield from _nothing(question, as_of, None))
    texts = [*(part.full for part in parts), *(sentence.text for sentence in sentences)]
    vectors = yield from work(lambda: embedder.embed(texts))
    most = max(1, _SENTENCES + 1 - len(parts))
    found = [
        answering(part.text, asked, sentences, vectors[len(parts) :], most)
        for part, asked in zip(parts, vectors, strict=False)
    ]
    # Read like a text: sources in their order, sentences of one source in theirs.
    chosen = [sentences[at] for at in sorted({at for best in found for at in best})]
    if not chosen:
        return (yield from _nothing(question, as_of, None))
    cited = list(dict.fromkeys(sentence.source for sentence in chosen))
    text = ""
    for sentence in chosen:
        piece = f"{' ' if text else ''}{sentence.text} [{cited.index(sentence.source) + 1}]"
        yield Piece(piece)
        text += piece
    not_found = tuple(part.text for part, best in zip(parts, found, strict=True) if not best)
    return Answer(text, tuple(sources[number] for number in cited), as_of, None, not_found)


def generate(
    question: str, hits: Sequence[Hit], model: LanguageModel, as_of: datetime | None, *, stream: bool
) -> Steps[Answer]:
    """The language model's answer to the question from these hits.

    Citations that the model invents are dropped; an answer that cites nothing is not given.

    Raises:
        ModelUnavailable: the model does not answer.
        UsageError: the question is too long for the budget.
    """
    sources = supported(hits)
    asked: Prompt | None = None
    if sources:
        asked = yield from work(
            lambda: prompt(question, sources, count=model.count, budget=model.budget(), nonce=secrets.token_hex(8))
        )
    if asked is None:
        return (yield from _nothing(question, as_of, model.name))
    if not asked.sources:
        raise UsageError("the question leaves no room for sources: shorten it, or raise TIDEGATE_LLM_CONTEXT_TOKENS")
    citing = Citing(len(asked.sources))
    reply = model.reply(asked.messages, stream=stream)
    text = ""
    try:
        while (part := (yield from work(lambda: next(reply, None)))) is not None:
            if shown := citing.feed(part):
                yield Piece(shown)
                text += shown
    finally:
        with suppress(ValueError):  # a thread that nobody waits for any more still reads from it
            reply.close()
    if shown := citing.end():
        yield Piece(shown)
        text += shown
    if not citing.cited:
        return (yield from _nothing(question, as_of, model.name, tuple(citing.not_found)))
    cited = tuple(asked.sources[number - 1] for number in citing.cited)
    return Answer(text, cited, as_of, model.name, tuple(citing.not_found))


def _nothing(
    question: str, as_of: datetime | None, model: str | None, not_found: tuple[str, ...] = ()
) -> Steps[Answer]:
    yield Piece(NO_SUPPORT)
    return Answer(NO_SUPPORT, (), as_of, model, not_found or (question,))
