"""Rows of domain-owned Postgres tables, searchable by meaning within milliseconds of their commit."""

from typing import TYPE_CHECKING

if TYPE_CHECKING:
    from tidegate.query.answer import Answer
    from tidegate.query.client import Client
    from tidegate.query.hit import Hit

__all__ = ["Answer", "Client", "Hit", "connect"]


def connect(dsn: str | None = None, *, role: str | None = None) -> "Client":
    """A client for the database of `dsn` (default: TIDEGATE_DSN), as its login or as `role`.

    Raises:
        UsageError: no DSN.
        ConnectionFailed: not reachable, or the login may not take the role.
    """
    from tidegate.query.client import open_client

    return open_client(dsn, role=role)


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
