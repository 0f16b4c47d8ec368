"""The database as this release would make it: made in a transaction that is rolled back."""

from collections.abc import Iterator, Sequence
from dataclasses import dataclass
from typing import Any

from psycopg import sql

from tidegate.contract.contract import Contract
from tidegate.database import Connection
from tidegate.govern import chunk_table as table_of
from tidegate.govern.clear_table import ClearTables
from tidegate.govern.control_schema import install_functions
from tidegate.govern.policies import policies
from tidegate.govern.source_guard import guards
from tidegate.sql import queries

Row = tuple[Any, ...]
LOCK_TIMEOUT_MS = 2000


@dataclass(frozen=True, slots=True)
class State:
    """What can drift: rows of the named queries of `sql/drift.sql`; policies by chunk table."""

    functions: dict[str, Row]
    privileges: frozenset[Row]
    relations: dict[str, Row]
    triggers: dict[tuple[str, str], Row]
    policies: dict[str, dict[str, Row]]


def actual(connection: Connection, contracts: Sequence[Contract], oids: dict[str, int]) -> State:
    """As it is. `oids`: of the chunk tables that exist, by their names."""
    held = {name: _policies(connection, oid) for name, oid in oids.items()}
    return _state(connection, schemas(contracts), held)


def expected(
    connection: Connection, contracts: Sequence[Contract], oids: dict[str, int], remote: frozenset[str] = frozenset()
) -> State:
    """As `init` and `apply` would make it. Views and triggers are locked for the moment, at most 2 s in waiting.

    Args:
        remote: the products whose rows are in another database; they have no live check.
    """
    with connection.transaction(force_rollback=True):
        connection.execute("SELECT set_config('lock_timeout', %s, true)", [str(LOCK_TIMEOUT_MS)])
        connection.execute("SELECT set_config('tidegate.scratch', %s, true)", [",".join(schemas(contracts))])
        connection.execute("SET LOCAL ROLE tidegate_owner")
        connection.execute(queries("drift")["withdraw"])
        connection.execute("SET LOCAL ROLE NONE")
        install_functions(connection)
        connection.execute("SET LOCAL ROLE tidegate_owner")
        there = [contract for contract in contracts if contract.index in oids]
        reading = [contract for contract in there if contract.product not in remote]
        guarding = {contract.index: list(guards(connection, contract)) for contract in reading}
        for contract in reading:
            for statement in (*table_of.functions(contract), *guarding[contract.index]):
                connection.execute(statement)
        for contract in there:
            for statement in table_of.grants(contract, live=contract.product not in remote):
                connection.execute(statement)
            clear = ClearTables(connection, contract)
            if clear.complete:
                for statement in clear.grants():
                    connection.execute(statement)
        held = {contract.index: _wanted(connection, contract) for contract in there}
        return _state(connection, schemas(contracts), held)


def schemas(contracts: Sequence[Contract]) -> list[str]:
    """The control schema and those of the products."""
    return ["tidegate", *sorted({contract.chunk_schema for contract in contracts})]


def _wanted(connection: Connection, contract: Contract) -> dict[str, Row]:
    """The policies as the server prints them, made on a table that nobody else sees."""
    scratch = sql.Identifier("pg_temp", "tidegate_scratch")
    for statement in _scratch(contract, scratch):
        connection.execute(statement)
    oid = connection.execute("SELECT 'pg_temp.tidegate_scratch'::regclass::oid").fetchone()
    assert oid is not None
    found = _policies(connection, oid[0])
    connection.execute("DROP TABLE pg_temp.tidegate_scratch")
    return found


def _scratch(contract: Contract, scratch: sql.Identifier) -> Iterator[sql.Composed]:
    yield sql.SQL("CREATE TEMPORARY TABLE tidegate_scratch (LIKE {})").format(table_of.chunk_table(contract))
    for policy in policies(contract):
        yield policy.create(scratch)
        yield policy.mark(scratch)
    yield sql.SQL("CREATE POLICY tidegate_worker ON {} TO tidegate_worker USING (true) WITH CHECK (true)").format(
        scratch
    )
    yield sql.SQL("COMMENT ON POLICY tidegate_worker ON {} IS 'tidegate: the worker writes'").format(scratch)


def _policies(connection: Connection, oid: int) -> dict[str, Row]:
    return {row[0]: row for row in connection.execute(queries("drift")["policies"], {"oid": oid})}


def _state(connection: Connection, names: list[str], held: dict[str, dict[str, Row]]) -> State:
    def rows(query: str) -> list[Row]:
        return connection.execute(queries("drift")[query], {"schemas": names}).fetchall()

    return State(
        {row[0]: row for row in rows("functions")},
        frozenset(rows("privileges")),
        {row[0]: row for row in rows("control_relations")},
        {(row[0], row[1]): row for row in rows("triggers")},
        held,
    )
