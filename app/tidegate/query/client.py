"""The helper for Python: `tidegate.connect(dsn).search("…")`."""

import copy
import threading
from collections.abc import Iterator, Sequence
from contextlib import contextmanager
from types import TracebackType
from typing import TYPE_CHECKING, Self, cast

from psycopg import sql
from psycopg_pool import ConnectionPool

from tidegate.database import Connection, NotInitialised, connect, register_vectors
from tidegate.errors import UsageError
from tidegate.index.embedding.registry import Embedders
from tidegate.query import search as searching
from tidegate.query.answer import Answer, extract, generate
from tidegate.query.hit import Hit
from tidegate.query.search import Consistency
from tidegate.query.session import IdentifiedConnection, Identity
from tidegate.settings import Settings

if TYPE_CHECKING:
    from tidegate.query.exchange import Exchange

_POOL_SIZE = 4
_ENDED = Identity()


class Client:
    """Searches as the DSN's login, or as a role that this login may take. Thread-safe; closes as a context."""

    def __init__(self, dsn: str, settings: Settings, *, role: str | None = None, embedders: Embedders | None = None):
        # Says at once, and plainly, what is wrong with the DSN, the role or the database.
        with connect(dsn, role=role) as connection:
            _require_tidegate(connection)
        self._dsn = dsn
        self._settings = settings
        self._role = role
        self._embedders = embedders or Embedders(settings)
        self._pool: ConnectionPool[Connection] | None = None
        self._lock = threading.Lock()
        self._identity: Identity | None = None
        self._of: Client | None = None  # whose connections a view uses
        self._token_exchange: Exchange | None = None

    def search(
        self,
        question: str,
        k: int = 10,
        products: Sequence[str] | None = None,
        consistency: Consistency = "strict",
    ) -> list[Hit]:
        """The k rows nearest to the question that the caller may see, nearest first.

        Args:
            k: 1 to 10,000.
            products: `domain.table`; None: all that are offered to the caller.
            consistency: `strict` checks each hit against the live source row; `eventual` reads the index only.

        Raises:
            UsageError: an empty question, or a product that is not offered.
            SearchRefused, EmbedderUnavailable: see tidegate.query.search.
        """
        if isinstance(products, str):
            raise UsageError(f'products is the text "{products}"; pass a list: ["{products}"]')
        with self._connection() as connection:
            return searching.search(
                connection, self._embedders, question, k=k, products=products, consistency=consistency
            )

    def ask(self, question: str, k: int = 5, products: Sequence[str] | None = None) -> Answer:
        """An answer from the k nearest rows that the caller may see, with citations and `as_of`.

        By the language model of TIDEGATE_LLM where one is set, else extracted word for word.

        Raises:
            UsageError, SearchRefused, EmbedderUnavailable: as `search`.
            ModelUnavailable: the language model does not answer.
        """
        with self._connection() as connection:
            # Before the search: what it finds is at least as new.
            moment = searching.as_of(connection, products)
        hits = self.search(question, k, products)
        if self._settings.llm:
            return generate(
                question,
                hits,
                model=self._settings.llm,
                api_base=self._settings.api_base,
                timeout_s=self._settings.embedding_timeout_s,
                as_of=moment,
            )
        return extract(question, hits, self._embedders.of("local/all-minilm-l6-v2"), moment)

    def why_nothing(self, products: Sequence[str] | None = None) -> str:
        """What may be behind an empty result: nothing offered, not indexed yet, or nothing that the role may see."""
        with self._connection() as connection:
            return searching.why_nothing(connection, products)

    @contextmanager
    def as_token(self, token: str) -> Iterator["Client"]:
        """A view of this client whose every call is made by whom the token says.

        For logins that are gateways (members of tidegate_gateway). The token is verified in the database, anew by each
        statement; one that does not count shows nothing. It is set for a transaction only, so no other user of
        the pool meets it.

        Raises:
            UsageError: the text cannot be a token.
        """
        if not token.isascii() or "\0" in token:
            raise UsageError("the token is no JWT: it holds characters that none has")
        with self._view(Identity(token=token)) as view:
            yield view

    @contextmanager
    def as_role(self, role: str) -> Iterator["Client"]:
        """A view of this client whose every call is made as a role that the login may take (SET LOCAL ROLE)."""
        with self._view(Identity(role=role)) as view:
            yield view

    def exchange(self, id_token: str) -> str:
        """A short-lived token of the database for one of an identity provider; see tidegate.query.exchange.

        Raises:
            UsageError: the settings lack something, or this is used without the extra `jwt`.
            TokenRefused: the token does not prove what it must.
        """
        return self._exchange().exchange(id_token)

    def _exchange(self) -> "Exchange":
        from tidegate.query.exchange import Exchange

        owner = self._of or self
        with owner._lock:
            if owner._token_exchange is None:
                owner._token_exchange = Exchange.of_settings(self._settings)
            return owner._token_exchange

    @contextmanager
    def _view(self, identity: Identity) -> Iterator["Client"]:
        view = copy.copy(self)
        view._identity, view._of = identity, self._of or self
        try:
            yield view
        finally:
            view._identity = _ENDED

    def close(self) -> None:
        """Closes the connections; those of a view are its client's."""
        if self._of is not None:
            return
        with self._lock:
            if self._pool is not None:
                self._pool.close()
                self._pool = None

    def __enter__(self) -> Self:
        return self

    def __exit__(
        self, kind: type[BaseException] | None, error: BaseException | None, traceback: TracebackType | None
    ) -> None:
        self.close()

    @contextmanager
    def _connection(self) -> Iterator[Connection]:
        if self._of is not None:
            if self._identity is None or self._identity is _ENDED:
                raise UsageError("this view of the client has ended; use it inside its with block")
            with self._of._connection() as connection:
                yield cast(Connection, IdentifiedConnection(connection, self._identity))
            return
        with self._lock:
            if self._pool is None:
                self._pool = ConnectionPool(
                    self._dsn,
                    min_size=1,
                    max_size=_POOL_SIZE,
                    kwargs={"autocommit": True, "options": "-c timezone=UTC -c datestyle=ISO,YMD"},
                    configure=self._configure,
                    open=True,
                )
            pool = self._pool
        with pool.connection() as connection:
            yield connection

    def _configure(self, connection: Connection) -> None:
        register_vectors(connection)
        if self._role is not None:
            connection.execute(sql.SQL("SET ROLE {}").format(sql.Identifier(self._role)))


def _require_tidegate(connection: Connection) -> None:
    row = connection.execute(
        "SELECT FROM pg_namespace, pg_extension WHERE nspname = 'tidegate' AND extname = 'vector'"
    ).fetchone()
    if row is None:
        raise NotInitialised(
            f'database "{connection.info.dbname}" has no tidegate control schema; run "tidegate init" on it first'
        )


def open_client(dsn: str | None = None, *, role: str | None = None) -> Client:
    """A client for the database of `dsn` (default: TIDEGATE_DSN), as its login or as `role`.

    Raises:
        UsageError: neither `dsn` nor TIDEGATE_DSN, or a database without tidegate.
        ConnectionFailed: not reachable, or the login may not take the role.
    """
    settings = Settings()
    dsn = dsn or settings.dsn
    if dsn is None:
        raise UsageError("no DSN: pass it to tidegate.connect, or set TIDEGATE_DSN")
    return Client(dsn, settings, role=role)
