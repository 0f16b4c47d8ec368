"""Questions to hits: each question embedded once a model, then `tidegate.search` in the database."""

from pgvector import Vector

from tidegate.errors import UsageError
from tidegate.index.embedding.registry import Embedders
from tidegate.query.catalog import SQL, Offered, offered, refusals
from tidegate.query.hit import Hit
from tidegate.query.recency import recent_enough
from tidegate.query.scope import Scope
from tidegate.query.steps import Steps, fetch, work


def search(embedders: Embedders, question: str, scope: Scope) -> Steps[list[Hit]]:
    """The k rows nearest to the question, of those that the caller may see, best first.

    Raises:
        UsageError: an empty question, a product that is not published or not offered to the caller.
        SearchRefused: the database refused for another reason.
        StaleIndex, NotIndexedYet: see tidegate.query.recency.
        EmbedderUnavailable: a remote model does not answer.
    """
    if not question.strip():
        raise UsageError("the question is empty")
    return (yield from refusals(_search(embedders, question, scope)))


def _search(embedders: Embedders, question: str, scope: Scope) -> Steps[list[Hit]]:
    asked = yield from offered(scope.products)
    yield from recent_enough(scope, [each.product for each in asked])
    vectors = yield from work(lambda: _vectors(embedders, question, asked))
    hits: list[Hit] = []
    for model, vector in vectors.items():
        names = [each.product for each in asked if each.model == model]
        rows = yield from fetch(
            SQL["search"], {"query": vector, "k": scope.k, "products": names, "consistency": scope.consistency}
        )
        hits += [Hit(*row) for row in rows]
    hits.sort(key=lambda hit: (-hit.score, hit.product, str(hit.key)))
    return [hit for hit in hits if scope.min_score is None or hit.score >= scope.min_score][: scope.k]


def _vectors(embedders: Embedders, question: str, products: list[Offered]) -> dict[str, Vector]:
    """The question's embedding by each model that the products have."""
    models = dict.fromkeys(each.model for each in products)
    return {model: Vector(embedders.of(model).embed([question])[0]) for model in models}
