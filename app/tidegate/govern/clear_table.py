"""Side tables for the clear values of masked columns, readable by the revealing roles alone.

The chunk table holds the masked value for everybody. A privilege on a column could not hold the clear one back: it
would break `SELECT *`, and cannot tell apart two people who come through one gateway. So each revealed column has a
table of its own, `<table>_clear_<column>` beside the chunk table: the row's key, the value, the change's position.

Its policy asks two things: whether the caller has a revealing role, and whether the chunk table shows her the row,
under its own policies. So no rule can be evaded here, and whoever reads through somebody else's view or function is
asked herself. An emergency grant widens the rows, not what masks hide: it adds no revealing role.
"""

import json
from collections.abc import Iterator, Sequence
from typing import Any

from psycopg import sql

from tidegate.contract.contract import Column, Contract
from tidegate.contract.family import physical_type
from tidegate.contract.identifier import fit
from tidegate.database import Connection
from tidegate.govern.policies import GATEWAY, WORKER
from tidegate.sql import queries

Statement = sql.Composed
VALUE = "clear_value"
POSITION = "clear_position"


def clear_table_name(contract: Contract, column: Column) -> str:
    """Its name in the domain's schema."""
    return fit(f"{contract.table}_clear_{column.name}")


def clear_table(contract: Contract, column: Column) -> sql.Identifier:
    """The side table of the column."""
    return sql.Identifier(contract.chunk_schema, clear_table_name(contract, column))


class ClearTables:
    """What must be done so that a product has the side tables that its contract wants, and no others.

    Attributes:
        changes: whether one comes or goes, and the rows must be read again: into it, or because the worker, which
            hears of it a moment later, may have parked some over a table that was gone.
    """

    def __init__(self, connection: Connection, contract: Contract):
        self._contract = contract
        rows = connection.execute(
            queries("govern")["clear_tables"], {"schema": contract.chunk_schema, "prefix": _prefix(contract)}
        ).fetchall()
        self._held: dict[str, str] = dict(rows)
        self._wanted = {clear_table_name(contract, column): column for column in contract.revealed_columns}
        self.changes = self._held != {name: _mark(contract, column) for name, column in self._wanted.items()}

    @property
    def names(self) -> tuple[str, ...]:
        """The side tables that are there."""
        return tuple(self._held)

    @property
    def complete(self) -> bool:
        """Whether all that are wanted are there."""
        return self._wanted.keys() <= self._held.keys()

    def drops(self, *, all_: bool) -> Iterator[Statement]:
        """The tables that go: nobody reveals the column any more, its key, type or roles changed, or all of them."""
        for name, mark in self._held.items():
            column = self._wanted.get(name)
            if all_ or column is None or mark != _mark(self._contract, column):
                yield sql.SQL("DROP TABLE {}").format(sql.Identifier(self._contract.chunk_schema, name))

    def creates(self, *, all_: bool) -> Iterator[Statement]:
        """The tables that come, closed before anything is in them."""
        for name, column in self._wanted.items():
            if all_ or self._held.get(name) != _mark(self._contract, column):
                yield from _create(self._contract, column)

    def grants(self) -> Iterator[Statement]:
        """Who may read them, and nobody else: the revealing roles and gateways, under the policy."""
        for column in self._contract.revealed_columns:
            table = clear_table(self._contract, column)
            roles = sql.SQL(", ").join(map(sql.Identifier, (*column.reveal, GATEWAY)))
            yield sql.SQL("REVOKE ALL ON TABLE {} FROM PUBLIC").format(table)
            yield sql.SQL("GRANT SELECT, INSERT, UPDATE, DELETE ON {} TO {}").format(table, sql.Identifier(WORKER))
            yield sql.SQL("GRANT USAGE ON SCHEMA {} TO {}").format(sql.Identifier(self._contract.chunk_schema), roles)
            yield sql.SQL("GRANT SELECT ON {} TO {}").format(table, roles)

    def summary(self, *, all_: bool) -> Iterator[str]:
        for name, column in self._wanted.items():
            if all_ or self._held.get(name) != _mark(self._contract, column):
                yield (
                    f"creates {self._contract.chunk_schema}.{name}, the clear values of {column.name} for "
                    f"{', '.join(column.reveal)}"
                )
        for name in self._held:
            if name not in self._wanted:
                yield f"drops {self._contract.chunk_schema}.{name}, whose clear values nobody may read any more"


def remasked(old: Contract, new: Contract) -> frozenset[str]:
    """Columns whose mask changed: what stands beside the chunks now must not stay until it is written anew."""
    before = {column.name: column.mask for column in old.carried_columns}
    return frozenset(
        column.name
        for column in new.carried_columns
        if column.name in before and before[column.name] != column.mask and column.key_position is None
    )


def _create(contract: Contract, column: Column) -> Iterator[Statement]:
    table, chunks = clear_table(contract, column), sql.Identifier(contract.chunk_schema, contract.table)
    keys = [sql.Identifier(key.name) for key in contract.key_columns]
    yield sql.SQL(
        "CREATE TABLE {table} ({columns}, {value} {type}, {position} pg_lsn[] NOT NULL, PRIMARY KEY ({key}))"
    ).format(
        table=table,
        columns=sql.SQL(", ").join(
            sql.SQL("{} {} NOT NULL").format(name, _type(key))
            for name, key in zip(keys, contract.key_columns, strict=True)
        ),
        value=sql.Identifier(VALUE),
        type=_type(column),
        position=sql.Identifier(POSITION),
        key=sql.SQL(", ").join(keys),
    )
    yield sql.SQL("COMMENT ON TABLE {} IS {}").format(table, sql.Literal(_mark(contract, column)))
    yield sql.SQL("ALTER TABLE {} ENABLE ROW LEVEL SECURITY").format(table)
    yield sql.SQL("ALTER TABLE {} FORCE ROW LEVEL SECURITY").format(table)
    yield sql.SQL("CREATE POLICY tidegate_worker ON {} FOR ALL TO {} USING (true) WITH CHECK (true)").format(
        table, sql.Identifier(WORKER)
    )
    yield sql.SQL("COMMENT ON POLICY tidegate_worker ON {} IS 'tidegate: the worker writes'").format(table)
    using = sql.SQL("({roles}) AND EXISTS (SELECT FROM {chunks} AS c WHERE {match})").format(
        roles=sql.SQL(" OR ").join(
            sql.SQL("(SELECT tidegate.acts_as({}))").format(sql.Literal(role)) for role in column.reveal
        ),
        chunks=chunks,
        match=sql.SQL(" AND ").join(
            sql.SQL("c.{} = {}.{}").format(key, sql.Identifier(clear_table_name(contract, column)), key) for key in keys
        ),
    )
    yield sql.SQL("CREATE POLICY tidegate_reveal ON {} FOR SELECT TO {} USING ({})").format(
        table, sql.SQL(", ").join(map(sql.Identifier, (*column.reveal, GATEWAY))), using
    )
    yield sql.SQL("COMMENT ON POLICY tidegate_reveal ON {} IS {}").format(
        table, sql.Literal(f"tidegate: reveals {contract.product} {column.name}")
    )


def _prefix(contract: Contract) -> str:
    return f"tidegate: clear values of {contract.product}, "


def _mark(contract: Contract, column: Column) -> str:
    """Says all that the table depends on: one with another comment is made anew."""
    facts: Sequence[Any] = (
        column.name,
        column.physical_type,
        list(column.reveal),
        [[key.name, key.physical_type] for key in contract.key_columns],
    )
    return _prefix(contract) + json.dumps(facts)


def _type(column: Column) -> sql.SQL:
    return sql.SQL(physical_type(column.physical_type))
