"""Searches switched from one index of a product to the other, back, and the second one dropped.

The two tables change their schemas, with their indexes, policies, privileges and side tables, and the two rows of
`tidegate.product` their places: one transaction of catalog changes (index_lock.py).
"""

import time
from collections.abc import Callable, Iterator
from dataclasses import dataclass
from datetime import timedelta
from typing import Any

import psycopg
from psycopg import sql
from psycopg.types.json import Jsonb

from tidegate.contract.contract import Contract
from tidegate.count import counted
from tidegate.database import Connection
from tidegate.errors import TidegateError
from tidegate.govern.beside import drop_statements
from tidegate.govern.clear_table import ClearTables
from tidegate.govern.index_lock import alone
from tidegate.govern.index_pair import Direction, PairedIndex, index_pair
from tidegate.sql import queries

CATCH_UP_S = 5.0
_SCRATCH = sql.Identifier("tidegate_switch")


class NotReady(TidegateError):
    """The other index cannot be searched yet; searches stay where they are."""


@dataclass(frozen=True, slots=True)
class Switched:
    """Searches go to `model` now, and went to `before`. `held_ms`: how long readers were kept waiting by it."""

    product: str
    model: str
    before: str
    held_ms: float


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
        UnknownName: there is no such product.
        NoSecondIndex: there is no such index beside it.
        NotReady: the other index is not built, or not as fresh as it has to be.
        ApplyBlocked: other transactions held the tables for a minute; nothing was changed.
    """
    deadline = time.monotonic() + (CATCH_UP_S if wait_s is None else wait_s)
    now, then = index_pair(connection, product, direction)
    while (missing := _unready(connection, now, then)) is not None:
        if wait_s is None or time.monotonic() >= deadline:
            raise NotReady(f"{product}: {missing}; searches stay with {now.model}")
        told(missing)
        time.sleep(0.5)
        now, then = index_pair(connection, product, direction)
    _catch_up(connection, product, now, then, deadline, told)
    with alone(connection, now, then) as held:
        again_now, again_then = index_pair(connection, product, direction)
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
        UnknownName: there is no such product.
        NoSecondIndex: there is no second index.
        ApplyBlocked: other transactions held its table for a minute; nothing was changed.
        NotReady: something of somebody else's stands on its table.
    """
    now, gone = index_pair(connection, product, None)
    try:
        with alone(connection, gone):
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


def _unready(connection: Connection, now: PairedIndex, then: PairedIndex) -> str | None:
    """What the index to be searched still lacks."""
    if then.state != "live":
        return f'the index with {then.model} is {then.state}; see "tidegate model status"'
    parameters: dict[str, Any] = {"now": now.product_id, "next": then.product_id}
    row = connection.execute(queries("model")["parked_more"], parameters).fetchone()
    if row and row[0]:
        rows = f"{counted(row[0], 'row')} found now {'is' if row[0] == 1 else 'are'}"
        return f"{rows} parked in the index with {then.model} (tidegate dead-letters list --product {then.name})"
    tables = {"now": now.contract.index, "next": then.contract.index}
    missing = [row[0] for row in connection.execute(queries("model")["indexes_missing"], tables)]
    if missing and _worth_waiting(connection, then):
        return f"{', '.join(missing)} of {then.contract.index} is not built yet"
    return None


def _worth_waiting(connection: Connection, then: PairedIndex) -> bool:
    """Whether the missing indexes are going to be built: some do not fit every length of vectors."""
    row = connection.execute(
        "SELECT dimension <= 2000 FROM tidegate.product WHERE product_id = %s", [then.product_id]
    ).fetchone()
    return row == (True,)


def _catch_up(
    connection: Connection,
    product: str,
    now: PairedIndex,
    then: PairedIndex,
    deadline: float,
    told: Callable[[str], None],
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


def _swap(connection: Connection, now: PairedIndex, then: PairedIndex) -> None:
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


def _record(connection: Connection, kind: str, before: PairedIndex, after: PairedIndex | None) -> None:
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


def _withdraw(connection: Connection, now: PairedIndex, gone: PairedIndex) -> None:
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
