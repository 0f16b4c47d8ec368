"""The calls of both clients, as steps: written once, driven by blocking or by awaiting."""

from dataclasses import replace
from datetime import datetime, timedelta
from typing import TYPE_CHECKING, Any

from tidegate.index.embedding.local_model import MODEL
from tidegate.index.embedding.registry import Embedders
from tidegate.query import search as searching
from tidegate.query.answer import Answer, extract, generate
from tidegate.query.catalog import SQL, offered, refusals
from tidegate.query.catalog import why_nothing as _why_nothing
from tidegate.query.hit import Hit
from tidegate.query.language_model import LanguageModel
from tidegate.query.question_parts import parts_of
from tidegate.query.recency import as_of, recent_enough
from tidegate.query.recency import why_old as _why_old
from tidegate.query.scope import Scope
from tidegate.query.search import Question
from tidegate.query.steps import Steps, fetch, work
from tidegate.settings import Settings

if TYPE_CHECKING:
    from sqlalchemy import Select


class Requests:
    """What can be asked. Holds no connection and does no I/O."""

    def __init__(self, settings: Settings, embedders: Embedders):
        self._settings = settings
        self._embedders = embedders

    def search(self, question: Question, scope: Scope) -> Steps[list[Hit]]:
        """See tidegate.query.search."""
        return searching.search(self._embedders, question, scope)

    def search_statement(self, question: Question, scope: Scope) -> Steps[str]:
        """See tidegate.query.search."""
        return searching.search_statement(self._embedders, question, scope)

    def similar(self, product: str, key: Any, scope: Scope) -> Steps[list[Hit]]:
        """See tidegate.query.search."""
        return searching.similar(product, key, scope)

    def statement(self, question: Question, product: str, scope: Scope) -> "Steps[Select[Any]]":
        """See tidegate.query.select."""
        asked = yield from refusals(offered([product]))
        vectors = yield from searching.vectors_of(self._embedders, question, asked)
        place = {"schema": asked[0].chunk_schema, "table": asked[0].chunk_table}
        columns = [(name, type_) for name, type_ in (yield from fetch(SQL["columns"], place))]
        text = None if question.mode == "vector" else question.text

        def select() -> "Select[Any]":
            from tidegate.query.select import select_of

            return select_of(asked[0], columns, text=text, vectors=vectors, scope=scope)

        return (yield from work(select))

    def ask(self, question: Question, scope: Scope, *, stream: bool) -> Steps[Answer]:
        """See tidegate.query.answer: by the language model that is set, else extracted."""
        moment = yield from refusals(_as_of(scope))
        scope = replace(scope, after=None, fresh_within=None)
        if self._settings.llm:
            hits = yield from self.search(question, scope)
            model = LanguageModel(self._settings.llm, self._settings)
            return (yield from generate(question.text, hits, model, moment, stream=stream))
        parts = parts_of(question.text)
        nearest: dict[tuple[str, str, int], Hit] = {}
        for part in parts:  # each for itself, or the nearest rows of one part crowd out another's
            text = part.text if question.mode == "keyword" else part.full
            for hit in (yield from self.search(Question(text, question.mode), scope)):
                place = (hit.product, str(hit.key), hit.chunk_no)
                if place not in nearest or nearest[place].score < hit.score:
                    nearest[place] = hit
        hits = list(nearest.values())
        return (yield from extract(question.text, parts, hits, self._embedders.of(MODEL), moment))

    def why_old(self, products: tuple[str, ...] | None) -> Steps[str | None]:
        """See tidegate.query.recency."""
        return refusals(_why_old(products, timedelta(milliseconds=self._settings.heartbeat_ms)))

    def why_nothing(self, products: tuple[str, ...] | None) -> Steps[str]:
        """See tidegate.query.catalog."""
        return refusals(_why_nothing(products))


def _as_of(scope: Scope) -> Steps[datetime | None]:
    """The moment of the products that are asked, before the search: what that finds is at least as new."""
    products = [each.product for each in (yield from offered(scope.products))]
    yield from recent_enough(scope, products)
    return (yield from as_of(products))
