"""The helper for asyncio: the calls of tidegate.query.client, awaited."""

import asyncio
from collections.abc import Awaitable, Callable, Mapping, Sequence
from concurrent.futures import ThreadPoolExecutor
from types import TracebackType
from typing import TYPE_CHECKING, Any, Literal, Self, TypeVar, assert_never, overload

import psycopg
from psycopg.rows import TupleRow
from psycopg_pool import AsyncConnectionPool

from tidegate.errors import UsageError
from tidegate.index.embedding.registry import Embedders
from tidegate.query.answer import Answer
from tidegate.query.client import Client
from tidegate.query.dsn import try_out
from tidegate.query.duration import Duration
from tidegate.query.hit import Hit
from tidegate.query.run import AsyncStream, run_async
from tidegate.query.scope import Consistency, Mode, Scope, Where
from tidegate.query.search import Question
from tidegate.query.session import Identity, lost_connections
from tidegate.query.steps import Effect, Fetch, Piece, Steps, Work
from tidegate.query.surface import Surface
from tidegate.settings import Settings

if TYPE_CHECKING:
    from sqlalchemy import Select

T = TypeVar("T")
_Connection = psycopg.AsyncConnection[TupleRow]
_THREADS = 16


class AsyncClient(Surface):
    """Searches as the DSN's login, or as a role that this login may take. Opens and closes by `async with`.

    The database is awaited; models, which block, run in threads of this client. A call that is cancelled leaves
    its thread to end by itself, at the latest with the model's time-out.
    """

    def __init__(self, dsn: str, settings: Settings, *, role: str | None = None, embedders: Embedders | None = None):
        super().__init__(dsn, settings, role=role, embedders=embedders)
        self._pool: AsyncConnectionPool[_Connection] | None = None
        self._threads: ThreadPoolExecutor | None = None

    async def search(
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
        scope = Scope.of(k, products, consistency, where, min_score, fresh_within, after, wait)
        return await self._run(self._requests.search(Question(question, mode), scope))

    async def similar(
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
        scope = Scope.of(k, products, consistency, where, min_score, fresh_within, after, wait)
        return await self._run(self._requests.similar(product, key, scope))

    async def statement(
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
        scope = Scope.of(k, [product], consistency, where, min_score)
        return await self._run(self._requests.statement(Question(question, mode), product, scope))

    async def search_statement(
        self,
        question: str,
        k: int = 10,
        products: Sequence[str] | None = None,
        consistency: Consistency = "strict",
        *,
        where: Where | None = None,
        mode: Mode = "vector",
    ) -> str:
        scope = Scope.of(k, products, consistency, where)
        return await self._run(self._requests.search_statement(Question(question, mode), scope))

    @overload
    def ask(
        self, question: str, k: int = ..., products: Sequence[str] | None = ..., consistency: Consistency = ...,
        *, where: Where | None = ..., mode: Mode = ..., min_score: float | None = ...,
        fresh_within: Duration | None = ..., after: str | int | None = ..., wait: Duration = ...,
        stream: Literal[False] = ...,
    ) -> Awaitable[Answer]: ...  # fmt: skip
    @overload
    def ask(
        self, question: str, k: int = ..., products: Sequence[str] | None = ..., consistency: Consistency = ...,
        *, where: Where | None = ..., mode: Mode = ..., min_score: float | None = ...,
        fresh_within: Duration | None = ..., after: str | int | None = ..., wait: Duration = ...,
        stream: Literal[True],
    ) -> AsyncStream[Answer]: ...  # fmt: skip
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
    ) -> Awaitable[Answer] | AsyncStream[Answer]:
        scope = Scope.of(k, products, consistency, where, min_score, fresh_within, after, wait)
        steps = self._requests.ask(Question(question, mode), scope, stream=stream)
        return AsyncStream(steps, self._perform) if stream else self._run(steps)

    async def why_nothing(self, products: Sequence[str] | None = None) -> str:
        return await self._run(self._requests.why_nothing(None if products is None else tuple(products)))

    async def why_old(self, products: Sequence[str] | None = None) -> str | None:
        return await self._run(self._requests.why_old(None if products is None else tuple(products)))

    async def exchange(self, id_token: str) -> str:
        return await self._in_thread(lambda: self._exchanger().exchange(id_token))  # type: ignore[no-any-return]

    async def close(self) -> None:
        if self._of is not None:
            return
        pool, self._pool = self._pool, None
        threads, self._threads = self._threads, None
        if pool is not None:
            await pool.close()
        if threads is not None:
            threads.shutdown(wait=False, cancel_futures=True)

    async def __aenter__(self) -> Self:
        if self._of is not None or self._pool is not None:
            raise UsageError("this client is open already")
        self._threads = ThreadPoolExecutor(_THREADS, "tidegate")
        try:
            await self._in_thread(lambda: try_out(self._dsn, self._role))
            pool: AsyncConnectionPool[_Connection] = AsyncConnectionPool(
                self._dsn, configure=self._configure, open=False, **self._pool_options()
            )
            await pool.open()
            self._pool = pool
        except BaseException:
            await self.close()
            raise
        return self

    async def __aexit__(
        self, kind: type[BaseException] | None, error: BaseException | None, traceback: TracebackType | None
    ) -> None:
        await self.close()

    async def _run(self, steps: Steps[T]) -> T:
        return await run_async(steps, self._perform)

    async def _perform(self, effect: Effect) -> Any:
        match effect:
            case Fetch():
                return await self._fetch(effect)
            case Work():
                return await self._in_thread(effect.function)
            case Piece():
                return None
            case _:
                assert_never(effect)

    async def _fetch(self, effect: Fetch) -> Any:
        asker, pool = self._asker(), (self._of or self)._pool
        if pool is None:
            raise UsageError("this client is not open; use it inside: async with tidegate.connect_async(…) as tg")
        with lost_connections():
            async with pool.connection() as connection:
                try:
                    return await self._asked(connection, asker, effect)
                except psycopg.OperationalError:
                    if not connection.broken:
                        raise
            await pool.check()
            async with pool.connection() as connection:
                return await self._asked(connection, asker, effect)

    async def _asked(self, connection: _Connection, asker: Identity, effect: Fetch) -> Any:
        openings = list(asker.openings())
        if not openings:
            return await (await connection.execute(effect.query, effect.params)).fetchall()
        async with connection.transaction():
            with asker.refusal(connection.info.user):
                for opening, params in openings:
                    await connection.execute(opening, params)
            return await (await connection.execute(effect.query, effect.params)).fetchall()

    async def _in_thread(self, function: Callable[[], Any]) -> Any:
        threads = (self._of or self)._threads
        if threads is None:
            raise UsageError("this client is not open; use it inside: async with tidegate.connect_async(…) as tg")
        return await asyncio.get_running_loop().run_in_executor(threads, function)

    async def _configure(self, connection: _Connection) -> None:
        for opening in self._session_openings():
            await connection.execute(opening)


for _name in (
    "search",
    "similar",
    "statement",
    "search_statement",
    "ask",
    "why_nothing",
    "why_old",
    "exchange",
    "close",
):
    getattr(AsyncClient, _name).__doc__ = getattr(Client, _name).__doc__
