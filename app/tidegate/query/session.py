"""Statements as somebody: each in a transaction of its own, after which the connection is nobody's again."""

from collections.abc import Iterator
from contextlib import contextmanager
from dataclasses import dataclass, field
from typing import Any

import psycopg
from psycopg import sql

from tidegate.database import Connection
from tidegate.errors import UsageError


@dataclass(frozen=True, slots=True)
class Identity:
    """Who asks: a role, or whoever a token says, or both; as long as a transaction."""

    role: str | None = None
    token: str | None = field(default=None, repr=False)

    @contextmanager
    def on(self, connection: Connection) -> Iterator[None]:
        """A transaction in which the connection asks as this identity; nothing of it survives the end.

        Raises:
            UsageError: the login may not take the role.
        """
        with connection.transaction():
            if self.role is not None:
                try:
                    connection.execute(sql.SQL("SET LOCAL ROLE {}").format(sql.Identifier(self.role)))
                except (psycopg.errors.InsufficientPrivilege, psycopg.errors.InvalidParameterValue) as error:
                    raise UsageError(
                        f'login "{connection.info.user}" may not act as "{self.role}": {error.diag.message_primary}'
                    ) from None
            if self.token is not None:
                connection.execute("SELECT pg_catalog.set_config('tidegate.jwt', %s, true)", [self.token])
            yield


class IdentifiedConnection:
    """A connection of the pool, of which each statement is run as an identity.

    One statement a transaction, so that none stays open while a question is embedded or answered.
    """

    def __init__(self, connection: Connection, identity: Identity):
        self._connection = connection
        self._identity = identity

    def execute(self, query: Any, params: Any = None, **options: Any) -> psycopg.Cursor[Any]:
        """As psycopg's; the rows are fetched when it returns."""
        with self._identity.on(self._connection):
            return self._connection.execute(query, params, **options)

    @property
    def info(self) -> psycopg.ConnectionInfo:
        return self._connection.info
