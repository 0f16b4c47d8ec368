"""Rows of domain-owned Postgres tables, searchable by meaning within milliseconds of their commit."""

from typing import TYPE_CHECKING

if TYPE_CHECKING:
    from tidegate.query.answer import Answer
    from tidegate.query.client import Client
    from tidegate.query.hit import Hit

__all__ = ["Answer", "Client", "Hit", "connect", "exchange"]


def connect(dsn: str | None = None, *, role: str | None = None) -> "Client":
    """A client for the database of `dsn` (default: TIDEGATE_DSN), as its login or as `role`.

    Raises:
        UsageError: no DSN.
        ConnectionFailed: not reachable, or the login may not take the role.
    """
    from tidegate.query.client import open_client

    return open_client(dsn, role=role)


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
    """The types of results, imported when first asked for: the import of the package stays quick."""
    if name == "Hit":
        from tidegate.query.hit import Hit

        return Hit
    if name == "Answer":
        from tidegate.query.answer import Answer

        return Answer
    if name == "Client":
        from tidegate.query.client import Client

        return Client
    raise AttributeError(f"module {__name__!r} has no attribute {name!r}")
