"""A published product as the worker uses it: its contract, embedder, splitter and tables."""

import json
from collections.abc import Iterable, Mapping, Sequence
from dataclasses import dataclass, field, replace
from functools import cached_property
from typing import Any

import psycopg
from psycopg import sql

from tidegate.capture.change_event import ChangeEvent, Row
from tidegate.capture.stream import HOME
from tidegate.contract.columns import is_restricted
from tidegate.contract.contract import Contract
from tidegate.contract.mask import masked
from tidegate.errors import TerminalError
from tidegate.index.embedding.embedder import Embedder, Splitter
from tidegate.index.embedding.registry import Embedders
from tidegate.index.value import is_unavailable, value_text
from tidegate.sql import queries

Values = Mapping[str, str | None]
Table = tuple[str, str, str]
"""A source table: source, schema, table."""


class Violation(TerminalError):
    """A row breaks its contract."""


@dataclass(frozen=True)
class Product:
    """One published product.

    Attributes:
        mask_key: the database's key, where a column of it is hashed.
        hash_model: the model that stands in the hashes of its documents, where that is another's: it was filled from
            the other's chunks, with their hashes.
        copied: a second index that is filled from the chunks of the first, not from the source.
        first_id: of a second index, the one that is searched.
    """

    product_id: int
    contract: Contract
    dimension: int
    state: str
    embedder: Embedder
    mask_key: bytes | None = field(default=None, repr=False)
    source: str = HOME
    hash_model: str | None = None
    copied: bool = False
    first_id: int | None = None

    @property
    def table(self) -> Table:
        """Its source table."""
        return self.source, self.contract.source.schema, self.contract.source.table

    @property
    def name(self) -> str:
        """What the catalog calls it: the product, and of a second index its model, too."""
        return f"{self.contract.product}@{self.model}" if self.contract.beside else self.contract.product

    @property
    def model(self) -> str:
        """The embedding model, which is the name of its lane."""
        return self.contract.embedding.model

    @property
    def cost_place(self) -> tuple[str, str]:
        """Where its costs are counted: product and model."""
        return self.contract.product, self.model

    def at(self, chunk_schema: str) -> "Product":
        """The same index in the schema where it is now: its own, or that of the one that is searched."""
        beside = chunk_schema != self.contract.function_schema
        return self if beside == self.contract.beside else replace(self, contract=replace(self.contract, beside=beside))

    @cached_property
    def splitter(self) -> Splitter:
        embedding = self.contract.embedding
        return self.embedder.splitter(
            embedding.chunk_tokens, embedding.chunk_overlap, embedding.chunk_min, embedding.chunk_target
        )

    @cached_property
    def key_names(self) -> tuple[str, ...]:
        return tuple(column.name for column in self.contract.key_columns)

    @cached_property
    def needed(self) -> frozenset[str]:
        """The columns that the index needs; nothing else of a row is kept."""
        return frozenset(column.name for column in self.contract.read_columns)

    def carried_values(self, values: Values) -> tuple[str | None, ...]:
        """What stands beside each chunk of the row: masked where the contract says so."""
        return tuple(
            masked(column.mask, values.get(column.name), self.mask_key, column.physical_type)
            if column.mask
            else values[column.name]
            for column in self.contract.carried_columns
        )

    @cached_property
    def chunk_table(self) -> sql.Identifier:
        return sql.Identifier(self.contract.chunk_schema, self.contract.table)

    @cached_property
    def source_table(self) -> sql.Identifier:
        return sql.Identifier(self.contract.source.schema, self.contract.source.table)

    def key_text(self, key: Row) -> str:
        """A key in its one written form: JSON, columns in the order of the primary key.

        Raises:
            Violation: the key has other columns than the contract says.
        """
        if key.keys() != set(self.key_names):
            raise Violation(
                f"the table's key is ({', '.join(key)}), the contract says ({', '.join(self.key_names)}); "
                "publish a contract with the new key, with --rebuild"
            )
        return json.dumps({name: key[name] for name in self.key_names}, ensure_ascii=False, separators=(",", ":"))

    def values(self, event: ChangeEvent) -> Values | None:
        """The needed columns of the event's row as Postgres writes them.

        Returns None where the event does not have them all: unchanged TOAST, or a column that the engine did not
        deliver. The row must be read again; that tells whether a column is really gone.
        """
        row = event.row or {}
        types = self.contract.column_types
        if any(name not in row or is_unavailable(row[name], types[name]) for name in self.needed):
            return None
        return {name: value_text(row[name], types[name]) for name in self.needed}

    def guard(self, connection: psycopg.Connection) -> None:
        """For this transaction on the source: refuses what the live check refuses, so that the source's owner has no
        code run with the worker's rights. A source on another server has no row-level security that was accepted."""
        if self.source == HOME:
            connection.execute(queries("worker")["guard_reads"], {"product_id": self.product_id})
        else:
            connection.execute(queries("remote")["guard_reads"])

    def key_match(self, keys: Sequence[str]) -> tuple[sql.Composed, list[Any]]:
        """`unnest(…) AS n (key, key_0, …)` of these keys and its parameters, for statements on the source as `s`
        (see `matches`)."""
        parsed = [json.loads(key) for key in keys]
        types = self.contract.column_types
        arrays: list[Any] = [[_text(key[name]) for key in parsed] for name in self.key_names]
        rows = sql.SQL("unnest(%s::text[], {}) AS n (key, {})").format(
            sql.SQL(", ").join(sql.SQL("%s::text[]::{}[]").format(sql.SQL(types[name])) for name in self.key_names),
            sql.SQL(", ").join(self._asked),
        )
        return rows, [list(keys), *arrays]

    @property
    def matches(self) -> sql.Composed:
        """Whether a row `s` of the source is the one that a row `n` of `key_match` names."""
        return sql.SQL(" AND ").join(
            sql.SQL("s.{} = n.{}").format(sql.Identifier(name), place)
            for name, place in zip(self.key_names, self._asked, strict=True)
        )

    @property
    def _asked(self) -> list[sql.Identifier]:
        return [sql.Identifier(f"key_{number}") for number, _ in enumerate(self.key_names)]

    def read(self, connection: psycopg.Connection, keys: Sequence[str]) -> dict[str, Values]:
        """The needed columns of these rows as they are in the source now; rows that are gone are left out.

        Args:
            connection: to the source.
            keys: as `key_text` writes them.

        Raises:
            Violation: the table, or a contract column of it, is not there or may not be read.
        """
        names = sorted(self.needed)
        rows, parameters = self.key_match(keys)
        statement = sql.SQL("SELECT n.key, {} FROM {} AS s JOIN {} ON {}").format(
            sql.SQL(", ").join(sql.SQL("s.{}::text").format(sql.Identifier(name)) for name in names),
            self.source_table,
            rows,
            self.matches,
        )
        try:
            with connection.transaction():
                self.guard(connection)
                found = connection.execute(statement, parameters).fetchall()
        except (
            psycopg.errors.UndefinedColumn,
            psycopg.errors.UndefinedTable,
            psycopg.errors.InvalidSchemaName,
            psycopg.errors.InsufficientPrivilege,
        ) as error:
            raise Violation(self._unreadable(connection, error)) from None
        return {row[0]: dict(zip(names, row[1:], strict=True)) for row in found}

    def _unreadable(self, connection: psycopg.Connection, error: psycopg.Error) -> str:
        source = self.contract.source
        there = {
            row[0]
            for row in connection.execute(
                queries("worker")["source_columns"], {"schema": source.schema, "table": source.table}
            )
        }
        missing = sorted(self.needed - there)
        if there and missing:
            return (
                f"contract column {', '.join(missing)} is missing in the source; "
                "restore it, or apply a contract without it"
            )
        return f"the source cannot be read ({error.diag.message_primary}); apply its contract again"


def _text(value: Any) -> str:
    return value if isinstance(value, str) else str(value)


def _mask_key(connection: psycopg.Connection, contract: Contract) -> bytes | None:
    """The key of hash masks, where one is used."""
    if not any(column.mask and column.mask.kind == "hash" for column in contract.columns):
        return None
    row = connection.execute(queries("worker")["mask_key"]).fetchone()
    assert row is not None
    return bytes(row[0])


def published(connection: psycopg.Connection, embedders: Embedders) -> dict[Table, Product]:
    """All published products by their source table, each with the index that is searched."""
    return {product.table: product for product in indexes(connection, embedders) if not product.contract.beside}


def indexes(connection: psycopg.Connection, embedders: Embedders) -> list[Product]:
    """All indexes: of each product the one that is searched, and a second one where one stands beside it."""
    products = []
    for row in connection.execute(queries("worker")["published"]).fetchall():
        contract = Contract.from_spec(row[1])
        product = Product(
            product_id=row[0],
            contract=contract,
            dimension=row[2],
            state=row[3],
            embedder=embedders.of(contract.embedding.model),
            mask_key=_mask_key(connection, contract),
            source=row[4],
            hash_model=row[5],
            copied=row[6] == "chunks",
            first_id=row[7],
        )
        products.append(product)
    return products


def secret_columns(contracts: Iterable[Contract], *, even_if_needed: bool = False) -> tuple[str, ...]:
    """`schema.table.column` of what must not enter the capture of a source.

    Only that: another column may be needed by the contract's next version, and the worker drops what no contract
    needs anyway.

    Args:
        even_if_needed: also what the index shows masked, for a capture that keeps what it reads (a Kafka topic).
            The worker then reads such rows from their table.
    """
    found = []
    for contract in contracts:
        needed = {column.name for column in contract.read_columns}
        found += [
            f"{contract.source.schema}.{contract.source.table}.{column.name}"
            for column in contract.columns
            if (is_restricted(column) or column.mask) and (even_if_needed or column.name not in needed)
        ]
    return tuple(found)
