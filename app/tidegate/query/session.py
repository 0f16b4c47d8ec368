"""Statements as somebody: each in a transaction of its own, after which the connection is nobody's again."""

from collections.abc import Iterator
from contextlib import contextmanager
from dataclasses import dataclass, field
from typing import Any

import psycopg
from psycopg import sql
from psycopg_pool import PoolTimeout

from tidegate.database import ConnectionFailed
from tidegate.errors import UnknownName, UsageError


@dataclass(frozen=True, slots=True)
class Identity:
    """Who asks: a role, or whoever a token says, or both; as long as a transaction.

    One statement a transaction, so that none stays open while a question is embedded or answered.
    """

    role: str | None = None
    token: str | None = field(default=None, repr=False)

    def openings(self) -> Iterator[tuple[sql.SQL | sql.Composed, list[Any]]]:
        """The statements that a transaction begins with; what they set ends with it."""
        if self.role is not None:
            yield sql.SQL("SET LOCAL ROLE {}").format(sql.Identifier(self.role)), []
        if self.token is not None:
            yield sql.SQL("SELECT pg_catalog.set_config('tidegate.jwt', %s, true)"), [self.token]

    @contextmanager
    def refusal(self, login: str) -> Iterator[None]:
        """What the database says to the openings, in the caller's words.

        Raises:
            UnknownName: there is no such role.
            UsageError: the login may not take the role.
        """
        try:
            yield
        except psycopg.errors.InvalidParameterValue:
            raise UnknownName(f'there is no role "{self.role}" that login "{login}" could act as') from None
        except psycopg.errors.InsufficientPrivilege as error:
            raise UsageError(f'login "{login}" may not act as "{self.role}": {error.diag.message_primary}') from None


@contextmanager
def lost_connections() -> Iterator[None]:
    """A database that is away, in the caller's words.

    Raises:
        ConnectionFailed: no connection, or one that broke twice.
    """
    try:
        yield
    except PoolTimeout as error:
        raise ConnectionFailed(
            f"no connection to the database: {error}; is it there, and not busy with others?"
        ) from None
    except (psycopg.errors.AdminShutdown, psycopg.errors.CrashShutdown, psycopg.errors.CannotConnectNow) as error:
        raise ConnectionFailed(f"the database hung up: {str(error).strip()}") from None
    except psycopg.OperationalError as error:
        if error.sqlstate is not None:
            raise
        raise ConnectionFailed(f"the connection to the database was lost: {str(error).strip()}") from None
