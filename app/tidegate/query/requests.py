"""The calls of both clients, as steps: written once, driven by blocking or by awaiting."""

from dataclasses import replace
from datetime import datetime

from tidegate.index.embedding.local_model import MODEL
from tidegate.index.embedding.registry import Embedders
from tidegate.query.answer import Answer, extract, generate
from tidegate.query.catalog import offered, refusals
from tidegate.query.catalog import why_nothing as _why_nothing
from tidegate.query.hit import Hit
from tidegate.query.language_model import LanguageModel
from tidegate.query.recency import as_of, recent_enough
from tidegate.query.scope import Scope
from tidegate.query.search import search as _search
from tidegate.query.steps import Steps
from tidegate.settings import Settings


class Requests:
    """What can be asked. Holds no connection and does no I/O."""

    def __init__(self, settings: Settings, embedders: Embedders):
        self._settings = settings
        self._embedders = embedders

    def search(self, question: str, scope: Scope) -> Steps[list[Hit]]:
        """See tidegate.query.search."""
        return _search(self._embedders, question, scope)

    def ask(self, question: str, scope: Scope, *, stream: bool) -> Steps[Answer]:
        """See tidegate.query.answer: by the language model that is set, else extracted."""
        moment = yield from refusals(_as_of(scope))
        hits = yield from self.search(question, replace(scope, after=None, fresh_within=None))
        if self._settings.llm:
            model = LanguageModel(self._settings.llm, self._settings)
            return (yield from generate(question, hits, model, moment, stream=stream))
        return (yield from extract(question, hits, self._embedders.of(MODEL), moment))

    def why_nothing(self, products: tuple[str, ...] | None) -> Steps[str]:
        """See tidegate.query.catalog."""
        return refusals(_why_nothing(products))


def _as_of(scope: Scope) -> Steps[datetime | None]:
    """The moment of the products that are asked, before the search: what that finds is at least as new."""
    products = [each.product for each in (yield from offered(scope.products))]
    yield from recent_enough(scope, products)
    return (yield from as_of(products))
