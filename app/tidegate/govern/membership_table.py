"""The tables behind `member(NAME)`: whether they are as the contract says, and can be asked quickly."""

from collections.abc import Iterator
from dataclasses import asdict

from psycopg import sql

from tidegate.contract.contract import Contract
from tidegate.contract.family import Family, family
from tidegate.contract.membership import Membership
from tidegate.database import Connection
from tidegate.sql import queries


def membership_problems(connection: Connection, contract: Contract) -> Iterator[str]:
    """Why a membership cannot work: no table, no column, or values that never compare with the row's."""
    for membership in contract.memberships:
        types = _types(connection, membership)
        table = f"{membership.schema}.{membership.table}"
        wanted = family(contract.column_types[membership.row])
        missing = [name for name in (membership.column, membership.principal) if name not in types]
        if not types:
            yield f"membership {membership.name}: table {table} does not exist"
        elif missing:
            yield (
                f"membership {membership.name}: there is no column {', '.join(missing)} in {table}; "
                f"there are: {', '.join(types)}"
            )
        elif family(types[membership.column]) is not wanted:
            yield (
                f"membership {membership.name}: {table}.{membership.column} is {types[membership.column]}, "
                f"which does not compare with column {membership.row} ({contract.column_types[membership.row]})"
            )
        elif family(types[membership.principal]) is not Family.TEXT:
            yield (
                f"membership {membership.name}: {table}.{membership.principal} is {types[membership.principal]}; "
                "it must hold the names of principals, a text"
            )


def membership_hints(connection: Connection, contract: Contract) -> Iterator[str]:
    """What would make memberships quick: the index that each search by them needs, where it is missing."""
    static = queries("govern")
    for membership in contract.memberships:
        if connection.execute(static["membership_index"], asdict(membership)).fetchone() == (False,):
            statement = sql.SQL("CREATE INDEX ON {} ({}, {})").format(
                sql.Identifier(membership.schema, membership.table),
                sql.Identifier(membership.principal),
                sql.Identifier(membership.column),
            )
            yield (
                f"member({membership.name}) reads all of {membership.schema}.{membership.table} in each statement, and "
                f"for callers with many rows again for each chunk: run {statement.as_string(None)}"
            )


def _types(connection: Connection, membership: Membership) -> dict[str, str]:
    found = connection.execute(queries("govern")["membership_columns"], asdict(membership))
    return dict(found.fetchall())
