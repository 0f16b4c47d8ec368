"""Searches switched from one index of a product to the other, back, and the second one dropped.

The two tables change their schemas, with their indexes, policies, privileges and side tables, and the two rows of
`tidegate.product` their places: one transaction of catalog changes. Order of locks, so that nobody waits long:

1. the lock that all applies take; vacuums and index builds are waited for with a lock that no reader or writer meets;
2. both ledgers, as a truncate has them: no writer is between its look at the catalog and its write;
3. the tables against readers: a quarter of a second at most, then all of it is let go and tried again. Who searches
   waits no longer than that behind it, and a search that runs long is not cut off.
"""

import time
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from dataclasses import dataclass
from datetime import datetime, timedelta
from typing import Any, Literal

import psycopg
from psycopg import sql
from psycopg.types.json import Jsonb

from tidegate.contract.contract import Contract
from tidegate.database import Connection
from tidegate.errors import TidegateError, UsageError
from tidegate.govern.apply import ApplyBlocked
from tidegate.govern.beside import drop_statements
from tidegate.govern.clear_table import ClearTables
from tidegate.sql import queries

READERS_WAIT_MS = 250
CATCH_UP_S = 5.0
LOCKS_S = 60.0
_SCRATCH = sql.Identifier("tidegate_switch")

Direction = Literal["switch", "rollback"]


class NotReady(TidegateError):
    """The other index cannot be searched yet; searches stay where they are."""


@dataclass(frozen=True, slots=True)
class Switched:
    """Searches go to `model` now, and went to `before`. `held_ms`: how long readers were kept waiting by it."""

    product: str
    model: str
    before: str
    held_ms: float


@dataclass(frozen=True, slots=True)
class _Index:
    product_id: int
    name: str
    contract: Contract
    state: str
    wanted: bool
    served_until: datetime | None
    source: str
    version: str

    @property
    def model(self) -> str:
        return self.contract.embedding.model


def switch(
    connection: Connection,
    product: str,
    direction: Direction = "switch",
    *,
    wait_s: float | None = None,
    told: Callable[[str], None] = lambda _: None,
) -> Switched:
    """Lets searches go to the contract's model, or back to the one before.

    Args:
        wait_s: seconds to wait for an index that is not built or has not caught up yet; None: not for the building,
            and a few seconds for the catching up.
        told: what is waited for, when it changes.

    Raises:
        UsageError: there is no such product, or no such index beside it.
        NotReady: the other index is not built, or not as fresh as it has to be.
        ApplyBlocked: other transactions held the tables for a minute; nothing was changed.
    """
    deadline = time.monotonic() + (CATCH_UP_S if wait_s is None else wait_s)
    now, then = _pair(connection, product, direction)
    while (missing := _unready(connection, now, then)) is not None:
        if wait_s is None or time.monotonic() >= deadline:
            raise NotReady(f"{product}: {missing}; searches stay with {now.model}")
        told(missing)
        time.sleep(0.5)
        now, then = _pair(connection, product, direction)
    _catch_up(connection, product, now, then, deadline, told)
    with _alone(connection, now, then) as held:
        again_now, again_then = _pair(connection, product, direction)
        if (again_now.product_id, again_then.product_id) != (now.product_id, then.product_id):
            raise NotReady(f"{product}: somebody else switched it meanwhile; nothing was changed")
        if again_then.state != "live":
            raise NotReady(f"{product}: the index with {then.model} is {again_then.state} again; nothing was changed")
        _swap(connection, now, then)
        _record(connection, f"model {direction}", now, then)
        connection.execute(queries("govern")["announce"])
    return Switched(product, then.model, now.model, held())


def drop(connection: Connection, product: str) -> str:
    """Removes the second index of the product, whichever it is; returns its model.

    Raises:
        UsageError: there is none.
        ApplyBlocked: other transactions held its table for a minute; nothing was changed.
        NotReady: something of somebody else's stands on its table.
    """
    now, gone = _pair(connection, product, None)
    try:
        with _alone(connection, gone):
            for statement in drop_statements(connection, gone.contract):
                connection.execute(statement)
            connection.execute(queries("model")["forget"], {"product_id": gone.product_id})
            _record(connection, "model drop", gone, None)
            connection.execute(queries("govern")["announce"])
            connection.execute("SET LOCAL ROLE NONE")
            _withdraw(connection, now, gone)
    except psycopg.errors.DependentObjectsStillExist as error:
        detail = (error.diag.message_detail or "").replace("\n", "; ")
        raise NotReady(f"{product}: {detail}; drop what stands on the table first; nothing was changed") from None
    return gone.model


def _pair(connection: Connection, product: str, direction: Direction | None) -> tuple[_Index, _Index]:
    rows = connection.execute(queries("model")["pair"], {"product": product}).fetchall()
    indexes = [_Index(row[0], row[1], Contract.from_spec(row[2]), *row[3:]) for row in rows]
    if not indexes:
        raise UsageError(f'product "{product}" is not published; "tidegate status" lists those that are')
    if len(indexes) == 1:
        raise UsageError(
            f"{product} has one index, with {indexes[0].model}, and none beside it; "
            "a contract with another model builds one when it is applied"
        )
    now, then = indexes
    if direction == "switch" and not then.wanted:
        raise UsageError(f'{product} is with the model of its contract, {now.model}; back: "tidegate model rollback"')
    if direction == "rollback" and then.served_until is None:
        raise UsageError(
            f'the index of {product} with {then.model} was never searched; "tidegate model switch" lets it be, '
            '"tidegate model drop" removes it'
        )
    return now, then


def _unready(connection: Connection, now: _Index, then: _Index) -> str | None:
    """What the index to be searched still lacks."""
    if then.state != "live":
        return f'the index with {then.model} is {then.state}; see "tidegate model status"'
    parameters: dict[str, Any] = {"now": now.product_id, "next": then.product_id}
    row = connection.execute(queries("model")["parked_more"], parameters).fetchone()
    if row and row[0]:
        return (
            f"{row[0]} rows that are found now are parked in the index with {then.model} "
            f"(tidegate dead-letters list --product {then.name})"
        )
    tables = {"now": now.contract.index, "next": then.contract.index}
    missing = [row[0] for row in connection.execute(queries("model")["indexes_missing"], tables)]
    if missing and _worth_waiting(connection, then):
        return f"{', '.join(missing)} of {then.contract.index} is not built yet"
    return None


def _worth_waiting(connection: Connection, then: _Index) -> bool:
    """Whether the missing indexes are going to be built: some do not fit every length of vectors."""
    row = connection.execute(
        "SELECT dimension <= 2000 FROM tidegate.product WHERE product_id = %s", [then.product_id]
    ).fetchone()
    return row == (True,)


def _catch_up(
    connection: Connection, product: str, now: _Index, then: _Index, deadline: float, told: Callable[[str], None]
) -> None:
    """Waits until all that was committed before this call is in the index."""
    static = queries("model")
    place = connection.execute(static["position"]).fetchone()
    assert place is not None
    connection.execute(static["nudge"])
    asked: dict[str, Any] = {"lane": then.model, "source": then.source, "lsn": place[0], "moment": place[1]}
    turn = 0
    while True:
        row = connection.execute(static["caught_up"], asked).fetchone()
        assert row is not None
        if row[0]:
            return
        behind = "nothing of it is known" if row[1] is None else f"it is {_seconds(place[1] - row[1])} behind"
        if time.monotonic() >= deadline:
            raise NotReady(
                f"{product}: the index with {then.model} has not caught up, {behind}; searches stay with {now.model}. "
                'Is "tidegate run" at work, and does the model answer? --wait waits for it'
            )
        turn += 1
        if turn % 50 == 0:
            told(f"the index with {then.model} catches up: {behind}")
        time.sleep(0.02)


def _seconds(behind: timedelta) -> str:
    return f"{max(behind.total_seconds(), 0.0):.1f} s"


@contextmanager
def _alone(connection: Connection, *indexes: _Index) -> Iterator[Callable[[], float]]:
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
        pause = 0.05
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
                time.sleep(pause)
                pause = min(pause * 2, 1.0)
        ended: list[float] = []
        yield lambda: ((ended[0] if ended else time.perf_counter()) - begun) * 1000
    ended.append(time.perf_counter())


def _blocked(indexes: tuple[_Index, ...]) -> ApplyBlocked:
    names = ", ".join(index.contract.index for index in indexes)
    return ApplyBlocked(f"other transactions hold {names}; nothing was changed. See pg_locks, and try again")


def _lock(
    connection: Connection, tables: list[sql.Identifier], mode: Literal["SHARE UPDATE EXCLUSIVE", "ACCESS EXCLUSIVE"]
) -> None:
    connection.execute(sql.SQL("LOCK TABLE {} IN {} MODE").format(sql.SQL(", ").join(tables), sql.SQL(mode)))


def _tables(connection: Connection, contract: Contract) -> list[sql.Identifier]:
    names = [contract.table, *ClearTables(connection, contract).names]
    return [sql.Identifier(contract.chunk_schema, name) for name in names]


def _swap(connection: Connection, now: _Index, then: _Index) -> None:
    """The tables change schemas by way of a third, which nobody sees; then the catalog's rows."""
    searched, second = now.contract, then.contract
    moves = [
        *_moves(connection, searched, sql.Identifier(searched.chunk_schema), _SCRATCH),
        *_moves(connection, second, sql.Identifier(second.chunk_schema), sql.Identifier(searched.chunk_schema)),
        *_moves(connection, searched, _SCRATCH, sql.Identifier(second.chunk_schema)),
    ]
    connection.execute(sql.SQL("CREATE SCHEMA {}").format(_SCRATCH))
    for move in moves:
        connection.execute(move)
    connection.execute(sql.SQL("DROP SCHEMA {}").format(_SCRATCH))
    for name, index in (("now", now), ("next", then)):
        connection.execute("SELECT set_config(%s, %s, true)", [f"tidegate.swap_{name}", str(index.product_id)])
    connection.execute(queries("model")["swap"])


def _moves(
    connection: Connection, contract: Contract, from_: sql.Identifier, to: sql.Identifier
) -> Iterator[sql.Composed]:
    for name in (contract.table, *ClearTables(connection, contract).names):
        yield sql.SQL("ALTER TABLE {}.{} SET SCHEMA {}").format(from_, sql.Identifier(name), to)


def _record(connection: Connection, kind: str, before: _Index, after: _Index | None) -> None:
    connection.execute(
        queries("model")["record"],
        {
            "kind": kind,
            "product": before.contract.product,
            "version": before.version,
            "subject": before.model if after is None else after.model,
            "before": Jsonb({"model": before.model}),
            "after": None if after is None else Jsonb({"model": after.model}),
        },
    )


def _withdraw(connection: Connection, now: _Index, gone: _Index) -> None:
    """Takes the source's columns that only the dropped index read from the worker, where this login may."""
    kept, read = ({column.name for column in index.contract.read_columns} for index in (now, gone))
    columns = sorted(read - kept)
    source = sql.Identifier(now.contract.source.schema, now.contract.source.table)
    owns = connection.execute(queries("model")["owns_source"], {"table": source.as_string(connection)}).fetchone()
    if columns and owns == (True,):
        connection.execute(
            sql.SQL("REVOKE SELECT ({}) ON {} FROM tidegate_worker, tidegate_owner").format(
                sql.SQL(", ").join(map(sql.Identifier, columns)), source
            )
        )
