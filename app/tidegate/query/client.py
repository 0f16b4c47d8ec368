"""The helper for Python: `tidegate.connect(dsn).search("…")`."""

from collections.abc import Mapping, Sequence
from types import TracebackType
from typing import TYPE_CHECKING, Any, Literal, Self, TypeVar, assert_never, overload

import psycopg
from psycopg_pool import ConnectionPool

from tidegate.database import Connection
from tidegate.errors import UsageError
from tidegate.index.embedding.registry import Embedders
from tidegate.query.answer import Answer
from tidegate.query.dsn import try_out
from tidegate.query.duration import Duration
from tidegate.query.hit import Hit
from tidegate.query.run import Stream, run
from tidegate.query.scope import Consistency, Mode, Scope, Where
from tidegate.query.search import Question
from tidegate.query.session import Identity, lost_connections
from tidegate.query.steps import Effect, Fetch, Piece, Steps, Work
from tidegate.query.surface import Surface
from tidegate.settings import Settings

if TYPE_CHECKING:
    from sqlalchemy import Select

T = TypeVar("T")


class Client(Surface):
    """Searches as the DSN's login, or as a role that this login may take. Thread-safe; closes as a context."""

    def __init__(self, dsn: str, settings: Settings, *, role: str | None = None, embedders: Embedders | None = None):
        super().__init__(dsn, settings, role=role, embedders=embedders)
        try_out(dsn, role)
        self._pool: ConnectionPool[Connection] | None = None
        self._closed = False

    def search(
        self,
        question: str,
        k: int = 10,
        products: Sequence[str] | None = None,
        consistency: Consistency = "strict",
        *,
        where: Where | None = None,
        mode: Mode = "vector",
        min_score: float | None = None,
        fresh_within: Duration | None = None,
        after: str | int | None = None,
        wait: Duration = "2s",
    ) -> list[Hit]:
        """The k rows that fit the question best, of those that the caller may see, best first.

        A hit's `committed_at` is the commit of the change that it shows; of a backfilled row, when it was read.

        Args:
            k: 1 to 10,000.
            products: `domain.table`; None: all that are offered to the caller.
            consistency: `strict` checks each hit against the live source row, where that is in the same database;
                `eventual` reads the index only. Each hit says which it is.
            where: tests of columns that the contract offers (tag `filter`), all of which must hold:
                `{"region": "EU", "price": {"gte": 10, "lt": 100}, "tag": ["a", "b"], "closed_at": None}`.
                There are gt, gte, lt, lte and ne.
            mode: `vector` compares meaning; `keyword` words, as web searches write them; `hybrid` fuses both by rank.
            min_score: hits below it are left out. Scores compare over products and models: by vector cosine similarity;
                by keyword 0 to 1, by the words' rank; by hybrid 1 for what is first by both.
            fresh_within: how old the index may be, e.g. `"1s"`.
            after: an LSN; the search sees everything that was committed up to it (read your writes).
            wait: how long to wait for `after`.

        Raises:
            UsageError: an empty question, a product that is not offered, an argument that is none.
            StaleIndex: the index is older than `fresh_within`.
            NotIndexedYet: `after` is not in the index within `wait`.
            SearchRefused: the database refused; a product is suspended.
            EmbedderUnavailable: a remote embedding model does not answer.
        """
        scope = Scope.of(k, products, consistency, where, min_score, fresh_within, after, wait)
        return self._run(self._requests.search(Question(question, mode), scope))

    def similar(
        self,
        product: str,
        key: Mapping[str, Any] | Any,
        k: int = 10,
        products: Sequence[str] | None = None,
        consistency: Consistency = "strict",
        *,
        where: Where | None = None,
        min_score: float | None = None,
        fresh_within: Duration | None = None,
        after: str | int | None = None,
        wait: Duration = "2s",
    ) -> list[Hit]:
        """The k rows nearest to a row that the caller may see, without itself, best first.

        Args:
            product: of that row.
            key: its key: the values by column, or the value alone where the key is one column.
            products: where to look; None: all that are offered and have the model of `product`.
            others: as `search`.

        Raises:
            NoSuchRow: there is no such row that the caller may see.
            UsageError and others: as `search`.
        """
        scope = Scope.of(k, products, consistency, where, min_score, fresh_within, after, wait)
        return self._run(self._requests.similar(product, key, scope))

    def statement(
        self,
        question: str,
        product: str,
        k: int = 10,
        consistency: Consistency = "strict",
        *,
        where: Where | None = None,
        mode: Mode = "vector",
        min_score: float | None = None,
    ) -> "Select[Any]":
        """A search of one product as a SQLAlchemy `Select`.

        Its columns: the key's, chunk_no, content, score, distance, consistency, committed_at, indexed_at,
        contract_version, and those that the product carries. It contains the question's vector and runs on any engine
        of this database, under the rights of its login:
        compose it (`select(s := statement.subquery()).join(…)`), then run it.

        Raises:
            UsageError and others: as `search`.
        """
        scope = Scope.of(k, [product], consistency, where, min_score)
        return self._run(self._requests.statement(Question(question, mode), product, scope))

    def search_statement(
        self,
        question: str,
        k: int = 10,
        products: Sequence[str] | None = None,
        consistency: Consistency = "strict",
        *,
        where: Where | None = None,
        mode: Mode = "vector",
    ) -> str:
        """The one statement that `search` runs with these arguments, whole, to EXPLAIN and to review.

        Raises:
            UsageError and others: as `search`.
        """
        scope = Scope.of(k, products, consistency, where)
        return self._run(self._requests.search_statement(Question(question, mode), scope))

    @overload
    def ask(
        self, question: str, k: int = ..., products: Sequence[str] | None = ..., consistency: Consistency = ...,
        *, where: Where | None = ..., mode: Mode = ..., min_score: float | None = ...,
        fresh_within: Duration | None = ..., after: str | int | None = ..., wait: Duration = ...,
        stream: Literal[False] = ...,
    ) -> Answer: ...  # fmt: skip
    @overload
    def ask(
        self, question: str, k: int = ..., products: Sequence[str] | None = ..., consistency: Consistency = ...,
        *, where: Where | None = ..., mode: Mode = ..., min_score: float | None = ...,
        fresh_within: Duration | None = ..., after: str | int | None = ..., wait: Duration = ...,
        stream: Literal[True],
    ) -> Stream[Answer]: ...  # fmt: skip
    def ask(
        self,
        question: str,
        k: int = 5,
        products: Sequence[str] | None = None,
        consistency: Consistency = "strict",
        *,
        where: Where | None = None,
        mode: Mode = "vector",
        min_score: float | None = None,
        fresh_within: Duration | None = None,
        after: str | int | None = None,
        wait: Duration = "2s",
        stream: bool = False,
    ) -> Answer | Stream[Answer]:
        """An answer from the k nearest rows that the caller may see, with citations, `as_of` and `not_found`.

        By the language model of TIDEGATE_LLM where one is set, else extracted word for word: each part of the question
        from the k rows nearest to that part. What only repeats the question, or asks itself, is no answer.

        Args:
            stream: gives the text piece by piece, as it comes, and at the end the answer as `answer`. Nothing comes
                before the first citation, so that an answer without support is not given in this way either.
            others: as `search`.

        Raises:
            UsageError and others: as `search`.
            ModelUnavailable: the language model does not answer.
        """
        scope = Scope.of(k, products, consistency, where, min_score, fresh_within, after, wait)
        steps = self._requests.ask(Question(question, mode), scope, stream=stream)
        return Stream(steps, self._perform) if stream else self._run(steps)

    def why_nothing(self, products: Sequence[str] | None = None) -> str:
        """What may be behind an empty result: nothing offered, not indexed yet, or nothing that the role may see."""
        return self._run(self._requests.why_nothing(None if products is None else tuple(products)))

    def why_old(self, products: Sequence[str] | None = None) -> str | None:
        """A line where the index of what is searched is clearly older than its SLA, and why; and one where suspended
        products are left out. None where neither is so."""
        return self._run(self._requests.why_old(None if products is None else tuple(products)))

    def exchange(self, id_token: str) -> str:
        """A short-lived token of the database for one of an identity provider; see tidegate.query.exchange.

        Raises:
            UsageError: the settings lack something, or this is used without the extra `jwt`.
            TokenRefused: the token does not prove what it must.
        """
        return self._exchanger().exchange(id_token)

    def close(self) -> None:
        """Closes the connections, for good; those of a view are its client's."""
        if self._of is not None:
            return
        with self._lock:
            self._closed = True
            if self._pool is not None:
                self._pool.close()
                self._pool = None

    def __enter__(self) -> Self:
        return self

    def __exit__(
        self, kind: type[BaseException] | None, error: BaseException | None, traceback: TracebackType | None
    ) -> None:
        self.close()

    def _run(self, steps: Steps[T]) -> T:
        return run(steps, self._perform)

    def _perform(self, effect: Effect) -> Any:
        match effect:
            case Fetch():
                return self._fetch(effect)
            case Work():
                return effect.function()
            case Piece():
                return None
            case _:
                assert_never(effect)

    def _fetch(self, effect: Fetch) -> Any:
        asker, pool = self._asker(), (self._of or self)._opened()
        with lost_connections():
            with pool.connection() as connection:
                try:
                    return self._asked(connection, asker, effect)
                except psycopg.OperationalError:
                    if not connection.broken:
                        raise
            # The server was restarted, or hung up. Nothing but reads runs here, so once more, on a sound connection.
            pool.check()
            with pool.connection() as connection:
                return self._asked(connection, asker, effect)

    def _asked(self, connection: Connection, asker: Identity, effect: Fetch) -> Any:
        openings = list(asker.openings())
        if not openings:
            return connection.execute(effect.query, effect.params).fetchall()
        with connection.transaction():
            with asker.refusal(connection.info.user):
                for opening, params in openings:
                    connection.execute(opening, params)
            return connection.execute(effect.query, effect.params).fetchall()

    def _opened(self) -> ConnectionPool[Connection]:
        with self._lock:
            if self._closed:
                raise UsageError("this client is closed; connect again: tidegate.connect(…)")
            if self._pool is None:
                self._pool = ConnectionPool(self._dsn, configure=self._configure, open=True, **self._pool_options())
            return self._pool

    def _configure(self, connection: Connection) -> None:
        for opening in self._session_openings():
            connection.execute(opening)
