"""The control schema: roles, tables (Alembic), functions, publication. What `tidegate init` does."""

from typing import LiteralString

import psycopg
from psycopg import sql

from tidegate.database import NotInitialised, vector_schema
from tidegate.errors import TidegateError
from tidegate.folder import folder
from tidegate.sql import script, with_vector_schema

FUNCTION_SCRIPTS: tuple[LiteralString, ...] = (
    "token",
    "principal",
    "catalog",
    "contract_history",
    "search_hit",
    "search_filter",
    "search_scope",
    "search_words",
    "search_statement",
    "search",
    "caller",
    "judged_row",
    "verdict",
    "explain",
    "who_can_see",
    "submission",
    "lineage",
    "audit",
    "grants",
)
MIN_SERVER = 150000
MIN_PGVECTOR = (0, 8)


class ServerUnfit(TidegateError):
    """The Postgres server lacks something that tidegate needs."""


def check_server(connection: psycopg.Connection) -> None:
    """Raises ServerUnfit, naming every lack at once: version, wal_level, pgvector, replication right."""
    lacks = server_lacks(connection)
    row = connection.execute(
        "SELECT coalesce(installed_version, default_version) FROM pg_available_extensions WHERE name = 'vector'"
    ).fetchone()
    if row is None:
        lacks.append("the extension pgvector is not installed on the server (package postgresql-NN-pgvector)")
    elif tuple(int(part) for part in row[0].split(".")[:2]) < MIN_PGVECTOR:
        lacks.append(f"pgvector is {row[0]}; tidegate needs 0.8 or newer (ALTER EXTENSION vector UPDATE)")
    if lacks:
        raise ServerUnfit(
            f"{connection.info.host}:{connection.info.port}/{connection.info.dbname}: " + "; ".join(lacks)
        )


def server_lacks(connection: psycopg.Connection) -> list[str]:
    """What keeps changes of this server from being captured: version, wal_level, replication right."""
    lacks = []
    if connection.info.server_version < MIN_SERVER:
        lacks.append(f"Postgres is {connection.info.server_version // 10000}; tidegate needs 15 or newer")
    row = connection.execute(
        "SELECT current_setting('wal_level'), "
        "(SELECT rolsuper OR rolreplication FROM pg_roles WHERE rolname = session_user)"
    ).fetchone()
    assert row is not None
    wal_level, may_replicate = row
    if wal_level != "logical":
        lacks.append(f'wal_level is "{wal_level}"; run ALTER SYSTEM SET wal_level = logical and restart the server')
    if not may_replicate:
        lacks.append(
            f'role "{connection.info.user}" may not replicate; run ALTER ROLE {connection.info.user} REPLICATION'
        )
    return lacks


def initialise(connection: psycopg.Connection) -> None:
    """Brings the control schema of this database up to date. Safe to repeat.

    `connection` is in autocommit mode; its role may create roles and schemas (a superuser, or CREATEROLE and
    REPLICATION with CREATE on the database and pgvector already there).
    """
    from tidegate.govern.migrations import migrate

    check_server(connection)
    with connection.transaction():
        _lock(connection)
        if connection.execute("SELECT to_regclass('tidegate.read_by') IS NOT NULL").fetchone() == (True,):
            raise ServerUnfit(
                f'database "{connection.info.dbname}" is a source of an index on another server; '
                "it cannot have an index of its own"
            )
        connection.execute(script("roles"))
    migrate(connection)
    with connection.transaction():
        _lock(connection)
        install_functions(connection)
        connection.execute(script("publication"))


def _lock(connection: psycopg.Connection) -> None:
    """Roles are the cluster's: two `init` at once, also of two databases, take turns."""
    connection.execute("SELECT pg_advisory_xact_lock(hashtextextended('tidegate.init', 0))")


def install_functions(connection: psycopg.Connection) -> None:
    """Creates or replaces the functions and views, as their owner."""
    schema = vector_schema(connection)
    connection.execute(
        sql.SQL("GRANT USAGE ON SCHEMA {} TO tidegate_owner, tidegate_worker, tidegate_reader").format(
            sql.Identifier(schema)
        )
        if not _all_may_use(connection, schema)
        else sql.SQL("SELECT")
    )
    connection.execute("SET LOCAL ROLE tidegate_owner")
    # Loads pgvector's library, so that its settings are known when a function names them.
    connection.execute(with_vector_schema("SELECT '[1]'::@extschema:vector@.vector", schema))
    for name in FUNCTION_SCRIPTS:
        connection.execute(with_vector_schema(script(name), schema))
    connection.execute("RESET ROLE")


def _all_may_use(connection: psycopg.Connection, schema: str) -> bool:
    row = connection.execute(
        "SELECT bool_and(has_schema_privilege(r, %s, 'USAGE')) "
        "FROM unnest(ARRAY['tidegate_owner', 'tidegate_worker', 'tidegate_reader']) AS r",
        [schema],
    ).fetchone()
    return row == (True,)


def initialisation_script() -> str:
    """The SQL that `initialise` would run on an empty database with pgvector in schema public, as text."""
    from tidegate.govern.migrations import migration_script

    functions = "\n".join(with_vector_schema(script(name), "public").as_string(None) for name in FUNCTION_SCRIPTS)
    return "\n".join(
        (
            script("roles"),
            "SET ROLE tidegate_owner;",
            migration_script(),
            "SELECT '[1]'::public.vector;",
            functions,
            "RESET ROLE;",
            script("publication"),
        )
    )


def schema_head() -> str:
    """The version that this release's control schema has: that of the newest migration. Every command asks for it, and
    Alembic itself takes as long to import as most commands to run."""
    return max(file.name.partition("_")[0] for file in (folder("migrations") / "versions").glob("[0-9]*_*.py"))


def require_current(connection: psycopg.Connection) -> None:
    """Raises NotInitialised unless the control schema is at this release's version."""
    head = schema_head()
    if connection.execute("SELECT to_regclass('tidegate.schema_version') IS NULL").fetchone() == (True,):
        raise NotInitialised(
            f'database "{connection.info.dbname}" has no tidegate control schema; run "tidegate init" on it first'
        )
    row = connection.execute("SELECT version_num FROM tidegate.schema_version").fetchone()
    if row is None or row[0] != head:
        raise NotInitialised(
            f'the control schema of "{connection.info.dbname}" is at version {row and row[0]}, '
            f"this release needs {head}; "
            'run "tidegate init" again'
        )
