"""Databases of a benchmark's own, on an embedded Postgres of its own or on the user's server."""

import contextlib
import os
import time
from collections.abc import Iterator, Mapping
from pathlib import Path

import psycopg
from psycopg import sql
from psycopg.conninfo import make_conninfo

from tidegate.bench.catalogue import READER
from tidegate.bench.report import BenchFailed
from tidegate.database import Connection, connect
from tidegate.govern.control_schema import initialise
from tidegate.local import postgres

_SLOT_PATIENCE_S = 15.0


@contextlib.contextmanager
def server(dsn: str | None, settings: Mapping[str, str] | None = None, keep: Path | None = None) -> Iterator[str]:
    """A server's DSN: the given one, or an embedded Postgres: a temporary one, or one on a folder that stays.

    The reader's role, if it was not there before, goes at the end. A kept server that already ran goes on.

    Args:
        settings: of the embedded one, over those that users have.
    """
    if dsn is None and keep is not None:
        ran = postgres.status(keep).running
        try:
            yield postgres.start(keep, settings=settings).dsn
        finally:
            if not ran:
                postgres.stop(keep)
        return
    if dsn is None:
        with postgres.temporary(settings) as started:
            yield started.dsn
        return
    with connect(dsn) as connection:
        had_reader = _has_reader(connection)
        try:
            yield dsn
        finally:
            if not had_reader and _has_reader(connection):
                connection.execute(sql.SQL("DROP ROLE {}").format(sql.Identifier(READER)))


@contextlib.contextmanager
def database(server_dsn: str, purpose: str) -> Iterator[str]:
    """The DSN of a new database with the control schema; it and its slot go at the end.

    A database and not a schema: on the user's server nothing of theirs is read, published or locked.

    Raises:
        BenchFailed: the login may not create a database.
    """
    name = f"tidegate_bench_{purpose}_{os.getpid()}"
    with connect(server_dsn) as connection:
        try:
            connection.execute(sql.SQL("CREATE DATABASE {}").format(sql.Identifier(name)))
        except psycopg.errors.InsufficientPrivilege:
            raise BenchFailed(
                f'login "{connection.info.user}" may not create a database, and a benchmark works in one of its own; '
                f"run: ALTER ROLE {connection.info.user} CREATEDB"
            ) from None
    dsn = make_conninfo(server_dsn, dbname=name)
    try:
        with connect(dsn) as connection:
            initialise(connection)
        yield dsn
    finally:
        with connect(server_dsn) as connection:
            _drop(connection, name)


@contextlib.contextmanager
def kept_database(server_dsn: str, name: str) -> Iterator[str]:
    """The DSN of a database that stays, with the control schema brought up to date; one that was not filled to the end
    is made again."""
    dsn = make_conninfo(server_dsn, dbname=name)
    with connect(server_dsn) as connection:
        there = connection.execute("SELECT FROM pg_database WHERE datname = %s", [name]).fetchone() is not None
        if there and not _filled(dsn):
            _drop(connection, name)
            there = False
        if not there:
            connection.execute(sql.SQL("CREATE DATABASE {}").format(sql.Identifier(name)))
    with connect(dsn) as connection:
        initialise(connection)
    yield dsn


def facts(connection: Connection) -> dict[str, str]:
    """The server's part of a report's config."""
    row = connection.execute(
        "SELECT current_setting('server_version'), current_setting('fsync'), current_setting('synchronous_commit')"
    ).fetchone()
    assert row is not None
    return dict(zip(("postgres", "fsync", "synchronous_commit"), row, strict=True))


def _filled(dsn: str) -> bool:
    with connect(dsn) as connection:
        known = connection.execute("SELECT to_regclass('public.tidegate_bench') IS NOT NULL").fetchone()
        if known is None or not known[0]:
            return False
        return connection.execute("SELECT FROM public.tidegate_bench").fetchone() is not None


def _has_reader(connection: Connection) -> bool:
    return connection.execute("SELECT FROM pg_roles WHERE rolname = %s", [READER]).fetchone() is not None


def _drop(connection: Connection, name: str) -> None:
    deadline = time.monotonic() + _SLOT_PATIENCE_S
    while slots := connection.execute(
        "SELECT slot_name, active_pid FROM pg_replication_slots WHERE database = %s", [name]
    ).fetchall():
        for slot, pid in slots:
            if pid is None:
                connection.execute("SELECT pg_drop_replication_slot(%s)", [slot])
            else:
                connection.execute("SELECT pg_terminate_backend(%s)", [pid])
        if time.monotonic() > deadline:
            raise BenchFailed(f'the replication slot of database "{name}" stays in use; drop both by hand')
        time.sleep(0.05)
    connection.execute(sql.SQL("DROP DATABASE {} WITH (FORCE)").format(sql.Identifier(name)))
