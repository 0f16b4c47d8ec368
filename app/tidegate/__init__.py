"""Rows of domain-owned Postgres tables, searchable by meaning within milliseconds of their commit."""

from importlib import import_module
from typing import TYPE_CHECKING

if TYPE_CHECKING:
    from tidegate.database import ConnectionFailed as ConnectionFailed
    from tidegate.database import NotInitialised as NotInitialised
    from tidegate.errors import TidegateError as TidegateError
    from tidegate.errors import TransientError as TransientError
    from tidegate.errors import UnknownName as UnknownName
    from tidegate.errors import UsageError as UsageError
    from tidegate.index.embedding.embedder import EmbedderUnavailable as EmbedderUnavailable
    from tidegate.query.answer import Answer as Answer
    from tidegate.query.async_client import AsyncClient as AsyncClient
    from tidegate.query.catalog import NoSuchRow as NoSuchRow
    from tidegate.query.catalog import SearchRefused as SearchRefused
    from tidegate.query.client import Client as Client
    from tidegate.query.exchange import TokenRefused as TokenRefused
    from tidegate.query.hit import Hit as Hit
    from tidegate.query.language_model import ModelUnavailable as ModelUnavailable
    from tidegate.query.recency import NotIndexedYet as NotIndexedYet
    from tidegate.query.recency import StaleIndex as StaleIndex

_HOMES = {
    "Answer": "query.answer",
    "AsyncClient": "query.async_client",
    "Client": "query.client",
    "ConnectionFailed": "database",
    "EmbedderUnavailable": "index.embedding.embedder",
    "Hit": "query.hit",
    "ModelUnavailable": "query.language_model",
    "NoSuchRow": "query.catalog",
    "NotIndexedYet": "query.recency",
    "NotInitialised": "database",
    "SearchRefused": "query.catalog",
    "StaleIndex": "query.recency",
    "TidegateError": "errors",
    "TokenRefused": "query.exchange",
    "TransientError": "errors",
    "UnknownName": "errors",
    "UsageError": "errors",
}
"""Where each name comes from that is imported when it is first asked for: the import of the package stays quick."""

__all__ = ["connect", "connect_async", "exchange", *_HOMES]  # noqa: PLE0604


def connect(dsn: str | None = None, *, role: str | None = None) -> "Client":
    """A client for the database of `dsn` (default: TIDEGATE_DSN), as its login or as `role`.

    Raises:
        UsageError: no DSN.
        UnknownName: there is no such role.
        ConnectionFailed: not reachable, or the login may not take the role.
        NotInitialised: a database without tidegate.
    """
    from tidegate.query.client import Client
    from tidegate.query.dsn import given_dsn
    from tidegate.settings import Settings

    settings = Settings()
    return Client(given_dsn(dsn, settings), settings, role=role)


def connect_async(dsn: str | None = None, *, role: str | None = None) -> "AsyncClient":
    """The same for asyncio: `async with tidegate.connect_async(dsn) as tg: await tg.search("…")`.

    It connects, and raises what `connect` raises of the database, when the block is entered.

    Raises:
        UsageError: no DSN.
    """
    from tidegate.query.async_client import AsyncClient
    from tidegate.query.dsn import given_dsn
    from tidegate.settings import Settings

    settings = Settings()
    return AsyncClient(given_dsn(dsn, settings), settings, role=role)


def exchange(id_token: str) -> str:
    """A short-lived database token for an identity provider's one, by the settings; see tidegate.query.exchange.

    For many tokens use `Client.exchange`, which keeps the provider's keys.

    Raises:
        UsageError: the settings lack something, or this is used without the extra `jwt`.
        TokenRefused: the token does not prove what it must.
    """
    from tidegate.query.exchange import Exchange
    from tidegate.settings import Settings

    return Exchange.of_settings(Settings()).exchange(id_token)


def __getattr__(name: str) -> object:
    if name not in _HOMES:
        raise AttributeError(f"module {__name__!r} has no attribute {name!r}")
    return getattr(import_module(f"{__name__}.{_HOMES[name]}"), name)


def __dir__() -> list[str]:
    return sorted({*globals(), *_HOMES})
