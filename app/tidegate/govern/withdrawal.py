"""What a published contract gave and the new one does not: privileges to take back, a function to drop."""

from collections.abc import Collection, Iterator

from psycopg import sql

from tidegate.contract.contract import Contract
from tidegate.contract.expression import And, Column, Expression, IsNull, Not, Or
from tidegate.govern.chunk_table import Statement, chunk_table, live_signatures, reading_roles


def withdrawn_roles(old: Contract, new: Contract, existing: Collection[str]) -> tuple[str, ...]:
    """Roles that no allow rule names any more, of those that exist."""
    kept = reading_roles(new)
    return tuple(role for role in reading_roles(old) if role not in kept and role in existing)


def withdraw_readers(new: Contract, roles: Collection[str], *, live: bool = True) -> Iterator[Statement]:
    """Takes chunk table and live check, where there is one, from these roles."""
    if roles:
        names = sql.SQL(", ").join(map(sql.Identifier, roles))
        yield sql.SQL("REVOKE ALL ON {} FROM {}").format(chunk_table(new), names)
        if live:
            checks = sql.SQL(", ").join(live_signatures(new))
            yield sql.SQL("REVOKE ALL ON FUNCTION {} FROM {}").format(checks, names)


def withdraw_columns(
    old: Contract, new: Contract, source_columns: Collection[str], also: Contract | None = None
) -> Iterator[Statement]:
    """Takes the source columns that are published no longer from the worker and the live check.

    Args:
        also: another index of the product, whose columns stay readable.
    """
    if (old.source.schema, old.source.table) != (new.source.schema, new.source.table):
        return
    kept = _read_columns(new) | (_read_columns(also) if also else frozenset())
    gone = [name for name in sorted(_read_columns(old) - kept) if name in source_columns]
    if gone:
        yield sql.SQL("REVOKE SELECT ({}) ON {} FROM tidegate_worker, tidegate_owner").format(
            sql.SQL(", ").join(map(sql.Identifier, gone)), sql.Identifier(new.source.schema, new.source.table)
        )


def drop_old_live_function(old: Contract, new: Contract) -> Iterator[Statement]:
    """A live check of another key would stay beside the new one, under the old rules."""
    if [c.physical_type for c in old.key_columns] != [c.physical_type for c in new.key_columns]:
        yield sql.SQL("DROP FUNCTION IF EXISTS {}").format(sql.SQL(", ").join(live_signatures(old)))


def null_tested(expression: Expression) -> Iterator[Column]:
    """The columns that the expression tests for NULL: a row in which they are not filled yet may pass."""
    match expression:
        case Or(terms) | And(terms):
            for term in terms:
                yield from null_tested(term)
        case Not(term):
            yield from null_tested(term)
        case IsNull(column):
            yield column
        case _:
            return


def _read_columns(contract: Contract) -> frozenset[str]:
    return frozenset(column.name for column in contract.read_columns)
