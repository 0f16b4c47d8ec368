"""Connections: with the right role, and text in one form."""

from typing import Any

import psycopg
from pgvector.psycopg import register_vector
from psycopg import sql
from psycopg.rows import TupleRow

from tidegate.errors import TidegateError, UnknownName, UsageError

Connection = psycopg.Connection[TupleRow]
CONNECT_TIMEOUT_S = 10


class ConnectionFailed(TidegateError):
    """The database cannot be reached."""


class NotInitialised(TidegateError):
    """The database has no tidegate control schema, or an old one; run "tidegate init"."""


def connect(
    dsn: str,
    *,
    role: str | None = None,
    application: str = "tidegate",
    timeout: int = CONNECT_TIMEOUT_S,
    **extra: Any,
) -> Connection:
    """A connection in autocommit mode, UTC and ISO dates.

    Args:
        dsn: URI or key=value.
        role: taken with SET ROLE, so that a wider login does no more than its task needs.
        timeout: seconds that a server may take to answer.

    Raises:
        ConnectionFailed: not reachable, or not allowed; names host, port and database.
        UnknownName: there is no such role.
        UsageError: the DSN is none.
    """
    try:
        connection = psycopg.connect(
            dsn,
            autocommit=True,
            connect_timeout=timeout,
            fallback_application_name=application,
            options="-c timezone=UTC -c datestyle=ISO,YMD -c intervalstyle=iso_8601",
            **extra,
        )
    except psycopg.OperationalError as error:
        raise ConnectionFailed(f"cannot connect: {str(error).strip()}") from None
    except psycopg.ProgrammingError as error:
        raise UsageError(f"the DSN is not understood: {str(error).strip()}") from None
    try:
        if role is not None:
            connection.execute(sql.SQL("SET ROLE {}").format(sql.Identifier(role)))
    except psycopg.Error as error:
        login = connection.info.user
        connection.close()
        if isinstance(error, psycopg.errors.InvalidParameterValue):
            raise UnknownName(f'there is no role "{role}" that login "{login}" could act as') from None
        raise ConnectionFailed(f'login "{login}" may not act as "{role}": {error.diag.message_primary}') from None
    return connection


def vector_schema(connection: Connection) -> str:
    """The schema that pgvector is installed in.

    Raises:
        NotInitialised: it is not in this database.
    """
    row = connection.execute(
        "SELECT n.nspname FROM pg_catalog.pg_extension e JOIN pg_catalog.pg_namespace n ON n.oid = e.extnamespace "
        "WHERE e.extname = 'vector'"
    ).fetchone()
    if row is None:
        raise NotInitialised('the extension "vector" is not in this database; run "tidegate init"')
    return str(row[0])


def register_vectors(connection: Connection) -> None:
    """Lets the connection send vectors in binary, wherever pgvector is installed."""
    schema = sql.Identifier(vector_schema(connection)).as_string(connection)
    connection.execute("SELECT set_config('search_path', 'pg_catalog, ' || %s, false)", [schema])
    register_vector(connection)
