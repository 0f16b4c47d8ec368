"""Indexes that are held alone, so that their tables may change places.

Order of locks, so that nobody waits long:

1. the lock that all applies take; vacuums and index builds are waited for with a lock that no reader or writer meets;
2. the ledgers, as a truncate has them: no writer is between its look at the catalog and its write;
3. the tables against readers: a quarter of a second at most, then all of it is let go and tried again. Who searches
   waits no longer than that behind it, and a search that runs long is not cut off.
"""

import time
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from typing import Literal

import psycopg
from psycopg import sql

from tidegate.backoff import Backoff
from tidegate.contract.contract import Contract
from tidegate.database import Connection
from tidegate.govern.apply import ApplyBlocked
from tidegate.govern.clear_table import ClearTables
from tidegate.govern.index_pair import PairedIndex
from tidegate.sql import queries

READERS_WAIT_MS = 250
LOCKS_S = 60.0


@contextmanager
def alone(connection: Connection, *indexes: PairedIndex) -> Iterator[Callable[[], float]]:
    """A transaction, as tidegate_owner, that has the indexes' tables and ledgers alone; yields for how many ms."""
    tables = [table for index in indexes for table in _tables(connection, index.contract)]
    with connection.transaction():
        connection.execute(f"SET LOCAL lock_timeout = {int(LOCKS_S * 1000)}")  # a constant
        connection.execute("SELECT pg_advisory_xact_lock(hashtextextended('tidegate.apply', 0))")
        connection.execute("SET LOCAL ROLE tidegate_owner")
        try:
            _lock(connection, tables, "SHARE UPDATE EXCLUSIVE")
        except psycopg.errors.LockNotAvailable:
            raise _blocked(indexes) from None
        connection.execute(f"SET LOCAL lock_timeout = {READERS_WAIT_MS}")  # a constant
        deadline = time.monotonic() + LOCKS_S
        pauses = Backoff(0.05, 1.0)
        while True:
            begun = time.perf_counter()
            try:
                with connection.transaction():
                    for index in sorted(indexes, key=lambda index: index.product_id):
                        connection.execute(queries("worker")["own_product"], {"product_id": index.product_id})
                    _lock(connection, tables, "ACCESS EXCLUSIVE")
                break
            except (psycopg.errors.LockNotAvailable, psycopg.errors.DeadlockDetected):
                if time.monotonic() >= deadline:
                    raise _blocked(indexes) from None
                time.sleep(pauses.next())
        ended: list[float] = []
        yield lambda: ((ended[0] if ended else time.perf_counter()) - begun) * 1000
    ended.append(time.perf_counter())


def _blocked(indexes: tuple[PairedIndex, ...]) -> ApplyBlocked:
    names = ", ".join(index.contract.index for index in indexes)
    return ApplyBlocked(f"other transactions hold {names}; nothing was changed. See pg_locks, and try again")


def _lock(
    connection: Connection, tables: list[sql.Identifier], mode: Literal["SHARE UPDATE EXCLUSIVE", "ACCESS EXCLUSIVE"]
) -> None:
    connection.execute(sql.SQL("LOCK TABLE {} IN {} MODE").format(sql.SQL(", ").join(tables), sql.SQL(mode)))


def _tables(connection: Connection, contract: Contract) -> list[sql.Identifier]:
    names = [contract.table, *ClearTables(connection, contract).names]
    return [sql.Identifier(contract.chunk_schema, name) for name in names]
