"""The clear values of masked columns, written beside the chunks, in their transaction.

They go into side tables that only revealing roles can read (govern/clear_table.py), and nowhere else: not into
chunks, documents, the ledger, dead letters or logs.
"""

from collections.abc import Sequence
from typing import Any

import psycopg
from psycopg import sql

from tidegate.capture.position import Position
from tidegate.contract.contract import Column
from tidegate.govern.clear_table import POSITION, VALUE, clear_table
from tidegate.index.product import Product, Values


class ClearWriter:
    """Writes one product's side tables. The caller holds the transaction, and says what the ledger let through."""

    def __init__(self, product: Product):
        self._product = product
        self._columns = product.contract.revealed_columns
        types = product.contract.column_types
        names = [sql.Identifier(name) for name in product.key_names]
        places = [sql.Identifier(f"key_{number}") for number, _ in enumerate(names)]
        keys = [
            sql.SQL("n.{}::{}").format(place, sql.SQL(types[name]))
            for place, name in zip(places, product.key_names, strict=True)
        ]
        self._key = sql.SQL(", ").join(names)
        self._keys = sql.SQL(", ").join(keys)
        self._places = sql.SQL(", ").join(places)
        self._arrays = sql.SQL(", ").join([sql.SQL("%s::text[]")] * len(names))
        self._match = sql.SQL(" AND ").join(
            sql.SQL("c.{} = {}").format(name, key) for name, key in zip(names, keys, strict=True)
        )
        self._orphan = sql.SQL(" AND ").join(sql.SQL("k.{} = c.{}").format(name, name) for name in names)

    def write(
        self,
        cursor: psycopg.Cursor[Any],
        removed: Sequence[tuple[str, ...]],
        kept: Sequence[tuple[tuple[str, ...], Values, Position]],
    ) -> None:
        """Forgets the rows with the keys `removed`, then writes those of `kept`: key, values, position."""
        for column in self._columns:
            table = clear_table(self._product.contract, column)
            if removed:
                cursor.execute(
                    sql.SQL("DELETE FROM {} AS c USING unnest({}) AS n ({}) WHERE {}").format(
                        table, self._arrays, self._places, self._match
                    ),
                    _turned(removed),
                )
            if kept:
                cursor.execute(
                    self._upsert(column),
                    [
                        *_turned([key for key, _, _ in kept]),
                        [values[column.name] for _, values, _ in kept],
                        [position.text() for _, _, position in kept],
                    ],
                )

    def truncate(self, cursor: psycopg.Cursor[Any], position: Position) -> None:
        """Forgets everything that is older than the truncate."""
        for column in self._columns:
            cursor.execute(
                sql.SQL("DELETE FROM {} WHERE {} < %s::pg_lsn[]").format(
                    clear_table(self._product.contract, column), sql.Identifier(POSITION)
                ),
                [position.text()],
            )

    def sweep(self, cursor: psycopg.Cursor[Any]) -> None:
        """Forgets the rows that have no chunk any more; nobody could see them, and nothing else would remove them."""
        for column in self._columns:
            cursor.execute(
                sql.SQL("DELETE FROM {} AS c WHERE NOT EXISTS (SELECT FROM {} AS k WHERE {})").format(
                    clear_table(self._product.contract, column), self._product.chunk_table, self._orphan
                )
            )

    def _upsert(self, column: Column) -> sql.Composed:
        value, position = sql.Identifier(VALUE), sql.Identifier(POSITION)
        return sql.SQL(
            "INSERT INTO {table} ({key}, {value}, {position}) "
            "SELECT {keys}, n.value::{type}, n.position::pg_lsn[] "
            "FROM unnest({arrays}, %s::text[], %s::text[]) AS n ({places}, value, position) "
            "ON CONFLICT ({key}) DO UPDATE SET {value} = excluded.{value}, {position} = excluded.{position}"
        ).format(
            table=clear_table(self._product.contract, column),
            key=self._key,
            value=value,
            position=position,
            keys=self._keys,
            type=sql.SQL(column.physical_type),
            arrays=self._arrays,
            places=self._places,
        )


def _turned(keys: Sequence[tuple[str, ...]]) -> list[list[str]]:
    """Keys as columns, each an array."""
    return [list(column) for column in zip(*keys, strict=True)]
