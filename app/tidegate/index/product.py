"""A published product as the worker uses it: its contract, embedder, splitter and tables."""

import json
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from functools import cached_property
from typing import Any

import psycopg
from psycopg import sql

from tidegate.capture.change_event import ChangeEvent, Row
from tidegate.contract.contract import Contract
from tidegate.errors import TerminalError
from tidegate.index.embedding.embedder import Embedder, Splitter
from tidegate.index.embedding.registry import Embedders
from tidegate.index.value import is_unavailable, value_text
from tidegate.sql import queries

Values = Mapping[str, str | None]


class Violation(TerminalError):
    """A row breaks its contract."""


@dataclass(frozen=True)
class Product:
    """One published product."""

    product_id: int
    contract: Contract
    dimension: int
    state: str
    embedder: Embedder

    @cached_property
    def splitter(self) -> Splitter:
        embedding = self.contract.embedding
        return self.embedder.splitter(embedding.chunk_tokens, embedding.chunk_overlap)

    @cached_property
    def key_names(self) -> tuple[str, ...]:
        return tuple(column.name for column in self.contract.key_columns)

    @cached_property
    def needed(self) -> frozenset[str]:
        """The columns that the index needs; nothing else of a row is kept."""
        contract = self.contract
        return frozenset(c.name for c in (*contract.carried_columns, *contract.document_columns))

    @cached_property
    def chunk_table(self) -> sql.Identifier:
        return sql.Identifier(self.contract.chunk_schema, self.contract.table)

    @cached_property
    def source_table(self) -> sql.Identifier:
        return sql.Identifier(self.contract.source.schema, self.contract.source.table)

    def key_text(self, key: Row) -> str:
        """A key in its one written form: JSON, columns in the order of the primary key.

        Raises:
            Violation: the event has no such key columns.
        """
        try:
            return json.dumps({name: key[name] for name in self.key_names}, ensure_ascii=False, separators=(",", ":"))
        except KeyError as missing:
            raise Violation(
                f"key column {missing} is missing in the source; apply a contract with the table's new key"
            ) from None

    def values(self, event: ChangeEvent) -> Values | None:
        """The needed columns of the event's row as Postgres writes them.

        Returns None where the event does not have them all (unchanged TOAST): the row must be read again.

        Raises:
            Violation: a contract column is not there at all.
        """
        row = event.row or {}
        missing = sorted(self.needed - row.keys())
        if missing:
            raise Violation(
                f"contract column {', '.join(missing)} is missing in the source; "
                "restore it, or apply a contract without it"
            )
        types = self.contract.column_types
        if any(is_unavailable(row[name], types[name]) for name in self.needed):
            return None
        return {name: value_text(row[name], types[name]) for name in self.needed}

    def read(self, connection: psycopg.Connection, keys: Sequence[str]) -> dict[str, Values]:
        """The needed columns of these rows as they are in the source now; rows that are gone are left out.

        Args:
            keys: as `key_text` writes them.
        """
        names = sorted(self.needed)
        parsed = [json.loads(key) for key in keys]
        types = self.contract.column_types
        arrays: list[Any] = [[_text(key[name]) for key in parsed] for name in self.key_names]
        statement = sql.SQL(
            "SELECT n.key, {columns} FROM {source} AS s "
            "JOIN unnest(%s::text[], {arrays}) AS n (key, {names}) ON {match}"
        ).format(
            columns=sql.SQL(", ").join(sql.SQL("s.{}::text").format(sql.Identifier(name)) for name in names),
            source=self.source_table,
            arrays=sql.SQL(", ").join(
                sql.SQL("%s::text[]::{}[]").format(sql.SQL(types[name])) for name in self.key_names
            ),
            names=sql.SQL(", ").join(sql.Identifier(f"n_{name}"[:63]) for name in self.key_names),
            match=sql.SQL(" AND ").join(
                sql.SQL("s.{} = n.{}").format(sql.Identifier(name), sql.Identifier(f"n_{name}"[:63]))
                for name in self.key_names
            ),
        )
        try:
            rows = connection.execute(statement, [list(keys), *arrays]).fetchall()
        except (psycopg.errors.UndefinedColumn, psycopg.errors.UndefinedTable) as error:
            raise Violation(f"the source no longer fits the contract: {error.diag.message_primary}") from None
        return {row[0]: dict(zip(names, row[1:], strict=True)) for row in rows}


def _text(value: Any) -> str:
    return value if isinstance(value, str) else str(value)


def published(connection: psycopg.Connection, embedders: Embedders) -> dict[tuple[str, str], Product]:
    """All published products by their source table (schema, table)."""
    products = {}
    for row in connection.execute(queries("worker")["published"]).fetchall():
        contract = Contract.from_spec(row[1])
        product = Product(
            product_id=row[0],
            contract=contract,
            dimension=row[2],
            state=row[3],
            embedder=embedders.of(contract.embedding.model),
        )
        products[(contract.source.schema, contract.source.table)] = product
    return products
