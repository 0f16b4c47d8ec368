"""Rows of a source as they are to be compared: their key, their document's hash, what is carried beside the chunks."""

import json
from collections.abc import Sequence
from dataclasses import dataclass
from typing import Any

import psycopg
from psycopg import sql

from tidegate.contract.family import Family, family
from tidegate.database import Connection
from tidegate.errors import TidegateError
from tidegate.index.document_sql import blank_sql, document_sql, hash_sql
from tidegate.index.product import Product
from tidegate.sql import queries

Key = tuple[str, ...]
"""The key columns' values as Postgres writes them."""


class SourceUnreadable(TidegateError):
    """A product's source table cannot be read as its contract says."""


@dataclass(frozen=True, slots=True)
class SourceRow:
    """A row of the source.

    Attributes:
        hash: of its document, as the ledger has it.
        blank: whether there is nothing to be indexed.
        carried, clear: what must stand beside its chunks, masked, and in the side tables of revealed columns.
    """

    hash: bytes
    blank: bool
    carried: tuple[str | None, ...]
    clear: tuple[str | None, ...]


class SourceRows:
    """Reads one product's source. No document leaves it, only hashes do.

    Args:
        connection: to the database that has the source; in autocommit mode.
    """

    def __init__(self, connection: Connection, product: Product):
        self._connection, self._product = connection, product
        contract = product.contract
        self._names = [column.name for column in contract.read_columns]
        self._types = [contract.column_types[name] for name in product.key_names]
        text = sql.Identifier("d", "document")
        columns = sql.SQL(", ").join(sql.SQL("s.{}::text").format(sql.Identifier(name)) for name in self._kept())
        self._key = sql.SQL(", ").join(sql.Identifier("s", name) for name in product.key_names)
        self._select = sql.SQL("SELECT ARRAY[{key}], {hash}, {blank}, {columns} FROM ").format(
            key=sql.SQL(", ").join(sql.SQL("{}::text").format(sql.Identifier("s", n)) for n in product.key_names),
            hash=hash_sql(contract.embedding, text, product.hash_model),
            blank=blank_sql(text),
            columns=columns,
        )
        self._document = sql.SQL(" CROSS JOIN LATERAL (SELECT {} AS document) AS d").format(
            document_sql(contract.embedding, "s")
        )

    def _kept(self) -> list[str]:
        """The columns that are compared as they are; the key is among them, so there is always one."""
        contract = self._product.contract
        wanted = {column.name for column in (*contract.carried_columns, *contract.revealed_columns)}
        return [name for name in self._names if name in wanted]

    def page(self, after: Key | None, limit: int) -> dict[Key, SourceRow]:
        """The next rows in the order of the key, at most `limit`."""
        casts = sql.SQL(", ").join(sql.SQL("%s::{}").format(sql.SQL(type_)) for type_ in self._types)
        where = sql.SQL("WHERE ({}) > ({}) ").format(self._key, casts) if after is not None else sql.SQL("")
        return self._rows(
            sql.SQL("{select}{source} AS s{document} {where}ORDER BY {key} LIMIT %s").format(
                select=self._select,
                source=self._product.source_table,
                document=self._document,
                where=where,
                key=self._key,
            ),
            [*(after or ()), limit],
        )

    def of(self, keys: Sequence[Key]) -> dict[Key, SourceRow]:
        """The rows with these keys; those that are gone are left out."""
        places = [sql.Identifier(f"key_{number}") for number, _ in enumerate(self._types)]
        return self._rows(
            sql.SQL("{select}unnest({arrays}) AS n ({places}) JOIN {source} AS s ON {match}{document}").format(
                select=self._select,
                arrays=sql.SQL(", ").join(sql.SQL("%s::text[]::{}[]").format(sql.SQL(type_)) for type_ in self._types),
                places=sql.SQL(", ").join(places),
                source=self._product.source_table,
                match=sql.SQL(" AND ").join(
                    sql.SQL("s.{} = n.{}").format(sql.Identifier(name), place)
                    for name, place in zip(self._product.key_names, places, strict=True)
                ),
                document=self._document,
            ),
            [list(column) for column in zip(*keys, strict=True)] or [[] for _ in self._types],
        )

    def estimate(self) -> int:
        """About how many rows there are, as the planner believes."""
        source = self._product.contract.source
        row = self._connection.execute(
            queries("verify")["source_estimate"], {"schema": source.schema, "table": source.table}
        ).fetchone()
        return int(row[0]) if row is not None else 0

    def position(self) -> str:
        """A place in the WAL: what was read before was committed before it."""
        row = self._connection.execute("SELECT pg_current_wal_insert_lsn()::text").fetchone()
        assert row is not None
        return str(row[0])

    def _rows(self, statement: sql.Composed, parameters: Sequence[Any]) -> dict[Key, SourceRow]:
        product = self._product
        try:
            with self._connection.transaction():
                product.guard(self._connection)
                rows = self._connection.execute(statement, parameters).fetchall()
        except (psycopg.ProgrammingError, psycopg.errors.ObjectNotInPrerequisiteState) as error:
            raise SourceUnreadable(
                f"{product.contract.product}: the source cannot be read ({error.diag.message_primary}); "
                "mend it, or apply a contract that fits it"
            ) from None
        return {tuple(row[0]): self._row(row) for row in rows}

    def _row(self, row: Sequence[Any]) -> SourceRow:
        values = dict(zip(self._kept(), row[3:], strict=True))
        contract = self._product.contract
        return SourceRow(
            hash=bytes(row[1]),
            blank=row[2],
            carried=self._product.carried_values(values),
            clear=tuple(values[column.name] for column in contract.revealed_columns),
        )


def ledger_key(product: Product, key: Key) -> str:
    """The key as the ledger has it (Product.key_text): a contract's keys are whole numbers, uuids and texts."""
    types = product.contract.column_types
    return product.key_text(
        {
            name: int(value) if family(types[name]) is Family.INTEGER else value
            for name, value in zip(product.key_names, key, strict=True)
        }
    )


def plain_key(product: Product, key: Key) -> Any:
    """The key as it is shown: an object with its columns."""
    return json.loads(ledger_key(product, key))
