"""Questions to hits: each question embedded once a model, then `tidegate.search` in the database."""

from collections.abc import Sequence
from dataclasses import dataclass, replace
from typing import Any, get_args

from tidegate.errors import UsageError
from tidegate.index.embedding.embedder import EmbedderUnavailable
from tidegate.index.embedding.registry import Embedders
from tidegate.query.catalog import SQL, ModelChanged, Offered, offered, refusals
from tidegate.query.hit import Hit
from tidegate.query.recency import recent_enough
from tidegate.query.scope import Mode, Scope, json_text, one_of
from tidegate.query.steps import Row, Steps, fetch, work

_MODEL_SWITCHES = 2


@dataclass(frozen=True, slots=True)
class Question:
    """What is asked: by its meaning (vector), its words (keyword), or both (hybrid)."""

    text: str
    mode: Mode = "vector"

    def __post_init__(self) -> None:
        if not isinstance(self.text, str) or not self.text.strip():
            raise UsageError("the question is empty")
        if "\0" in self.text:
            raise UsageError("the question holds a NUL character, which no text of Postgres can")
        try:
            self.text.encode()
        except UnicodeEncodeError as error:
            raise UsageError(f"the question is no Unicode text: character {error.start + 1} is half of one") from None
        one_of(self.mode, get_args(Mode), "mode")


def search(embedders: Embedders, question: Question, scope: Scope) -> Steps[list[Hit]]:
    """The k rows that fit the question best, of those that the caller may see, best first.

    Products of several models are searched with one embedding of the question a model, in one statement.

    Raises:
        UsageError: a product that is not published or not offered to the caller, a filter that a product does not take.
        SearchRefused: the database refused for another reason.
        StaleIndex, NotIndexedYet: see tidegate.query.recency.
        EmbedderUnavailable: a remote model does not answer.
    """
    rows = yield from refusals(_asked("search", embedders, question, scope))
    return _hits(rows, scope)


def similar(product: str, key: Any, scope: Scope) -> Steps[list[Hit]]:
    """The k rows nearest to a row that the caller may see, without itself, best first.

    Raises:
        NoSuchRow: there is none that the caller may see.
        UsageError and others: as `search`.
    """
    parameters = _parameters(scope) | {"product": product, "key": json_text(key, "key")}
    rows = yield from refusals(_recent(scope, [product], fetch(SQL["similar"], parameters)))
    return _hits(rows, scope)


def search_statement(embedders: Embedders, question: Question, scope: Scope) -> Steps[str]:
    """The statement that `search` runs with these arguments, whole, to EXPLAIN and to review. Raises as `search`."""
    rows = yield from refusals(_asked("search_statement", embedders, question, scope))
    return str(rows[0][0])


def vectors_of(embedders: Embedders, question: Question, products: Sequence[Offered]) -> Steps[str | None]:
    """The question's embedding by each model that the products have, as JSON; None where only words count."""
    if question.mode == "keyword":
        return None

    def embedded() -> str:
        numbers: dict[str, list[str]] = {}
        for model in dict.fromkeys(each.model for each in products):
            try:
                vector = embedders.of(model).embed([question.text])[0]
            except EmbedderUnavailable as error:
                others = [each.product for each in products if each.model != model]
                raise EmbedderUnavailable(
                    f"{error}" + (f"; products of other models can be searched: {', '.join(others)}" if others else "")
                ) from None
            numbers[model] = [f"{x:.9g}" for x in vector]  # 9 digits are a float32, exactly
        return "{" + ", ".join(f"{json_text(model, 'model')}: [{', '.join(n)}]" for model, n in numbers.items()) + "}"

    return (yield from work(embedded))


def _asked(query: str, embedders: Embedders, question: Question, scope: Scope) -> Steps[list[Row]]:
    asked = yield from offered(scope.products)
    yield from recent_enough(scope, [each.product for each in asked])
    for _ in range(_MODEL_SWITCHES):
        try:
            return (yield from _once(query, embedders, question, scope, asked))
        except ModelChanged:
            asked = yield from offered(scope.products)
    return (yield from _once(query, embedders, question, scope, asked))


def _once(
    query: str, embedders: Embedders, question: Question, scope: Scope, asked: Sequence[Offered]
) -> Steps[list[Row]]:
    vectors = yield from vectors_of(embedders, question, asked)
    named = replace(scope, products=tuple(each.product for each in asked))
    text = None if question.mode == "vector" else question.text
    return (yield from refusals(fetch(SQL[query], _parameters(named) | {"vectors": vectors, "text": text})))


def _recent(scope: Scope, products: list[str], steps: Steps[list[Row]]) -> Steps[list[Row]]:
    asked = yield from offered(products if scope.products is None else [*products, *scope.products])
    yield from recent_enough(scope, [each.product for each in asked])
    return (yield from steps)


def _parameters(scope: Scope) -> dict[str, Any]:
    products = None if scope.products is None else list(scope.products)
    return {"k": scope.k, "products": products, "filter": scope.where, "consistency": scope.consistency}


def _hits(rows: list[Row], scope: Scope) -> list[Hit]:
    hits = [Hit(*row) for row in rows]
    return [hit for hit in hits if scope.min_score is None or hit.score >= scope.min_score]
