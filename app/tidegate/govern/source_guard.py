"""What keeps the owner of a source table from having code of theirs run with tidegate's rights.

A table can become a view after it was published, or get row-level security whose policy calls a function: both run as
whoever reads, here the owner of every chunk table. So the functions that read sources refuse views and foreign
tables, and row-level security that was not there when the contract was applied: they fail, and show nothing.
"""

from collections.abc import Iterator

from psycopg import sql

from tidegate.contract.contract import Contract
from tidegate.database import Connection
from tidegate.govern.asker import membership_names
from tidegate.govern.chunk_table import Statement, live_signatures
from tidegate.sql import queries


def guards(connection: Connection, contract: Contract) -> Iterator[Statement]:
    """Statements to follow `chunk_table.functions`. A table whose row-level security was accepted keeps it."""
    static = queries("govern")
    kinds = connection.execute(static["restricts_relation_kinds"]).fetchone() == (True,)
    readers = [(contract.source.schema, contract.source.table, list(live_signatures(contract)))]
    for membership in contract.memberships:
        names = membership_names(contract, membership.name)
        of_table = [sql.SQL("{}").format(name) for name in (names.has, names.all_of, names.many_of, names.has_of)]
        readers.append((membership.schema, membership.table, of_table))
    for schema, table, functions in readers:
        row = connection.execute(static["source_table"], {"schema": schema, "table": table}).fetchone()
        accepted = row is not None and bool(row[3])
        for function in functions:
            if kinds:
                yield sql.SQL("ALTER FUNCTION {} SET restrict_nonsystem_relation_kind = 'view, foreign-table'").format(
                    function
                )
            if not accepted:
                yield sql.SQL("ALTER FUNCTION {} SET row_security = off").format(function)
