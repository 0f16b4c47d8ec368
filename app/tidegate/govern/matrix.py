"""Who gains and who loses rows by a plan, counted on the live index: one scan a product for all roles."""

from collections.abc import Iterator
from dataclasses import asdict, dataclass
from typing import Any

import psycopg
from psycopg import sql

from tidegate.contract.contract import Contract
from tidegate.database import Connection
from tidegate.govern import chunk_table as table_of
from tidegate.govern.asker import NamedRole
from tidegate.govern.membership_function import membership_functions
from tidegate.govern.plan import Plan
from tidegate.govern.policies import row_visible
from tidegate.sql import queries

MOST_ROLES = 50
COUNT_TIMEOUT_MS = 10_000


@dataclass(frozen=True, slots=True)
class Access:
    """What a role sees before and after, in source rows. `named`: a rule names it; else it has such a role."""

    role: str
    named: bool
    before: int
    after: int
    gained: int
    lost: int


@dataclass(frozen=True, slots=True)
class Clear:
    """A role that sees a masked column's clear value of the rows that it sees, before or after."""

    role: str
    column: str
    before: bool
    after: bool


@dataclass(frozen=True, slots=True)
class Matrix:
    """Access before and after a plan. `rows`: of how many; None where they were not counted, see `note`."""

    product: str
    rows: int | None
    access: tuple[Access, ...]
    clear: tuple[Clear, ...]
    notes: tuple[str, ...]

    def as_json(self) -> dict[str, Any]:
        return asdict(self)


def access_changes(plan: Plan) -> bool:
    """Whether the plan may change who sees what."""
    if not plan.steps:
        return False
    old, new = plan.published, plan.contract
    return old is None or (old.rules, old.memberships, old.source, _masks(old)) != (
        new.rules,
        new.memberships,
        new.source,
        _masks(new),
    )


def count_matrix(connection: Connection, plan: Plan) -> Matrix:
    """Counts, in a transaction that is rolled back: roles and membership functions that the plan makes are there
    in it, and nothing else of the plan."""
    notes: list[str] = []
    rows: int | None = None
    access: tuple[Access, ...] = ()
    clear: tuple[Clear, ...] = ()
    try:
        with connection.transaction(force_rollback=True):
            # One at a time: the rights that the count needs are granted and rolled back with it.
            connection.execute("SELECT pg_advisory_xact_lock(hashtextextended('tidegate.matrix', 0))")
            connection.execute("SELECT set_config('statement_timeout', %s, true)", [str(COUNT_TIMEOUT_MS)])
            for statement, as_owner in _preparation(plan):
                connection.execute("SET LOCAL ROLE tidegate_owner" if as_owner else "SET LOCAL ROLE NONE")
                connection.execute(statement)
            connection.execute("SET LOCAL ROLE NONE")
            roles = _roles(connection, plan, notes)
            clear = tuple(_clear(connection, plan, [role for role, _ in roles]))
            connection.execute("SET LOCAL ROLE tidegate_worker")
            rows, access = _count(connection, plan, roles, notes)
    except psycopg.errors.QueryCanceled:
        notes.append(f"not counted: it takes longer than {COUNT_TIMEOUT_MS // 1000} s")
    except psycopg.errors.UndefinedColumn as error:
        notes.append(f"not counted: {error.diag.message_primary}")
    return Matrix(plan.contract.product, rows, access, clear, tuple(notes))


def _preparation(plan: Plan) -> Iterator[tuple[sql.Composed, bool]]:
    contract = plan.contract
    for role in sorted(plan.new_roles):
        yield from ((statement, False) for statement in table_of.create_role(role))
    if plan.published is None:
        yield from ((statement, True) for statement in table_of.create_schema(contract))
        yield sql.SQL("GRANT USAGE ON SCHEMA {} TO tidegate_worker").format(sql.Identifier(contract.chunk_schema)), True
    if not plan.source:
        yield from ((statement, False) for statement in table_of.source_grants(contract))
    for membership in contract.memberships:
        yield membership_functions(contract, membership), True
    yield (
        sql.SQL("GRANT EXECUTE ON ALL FUNCTIONS IN SCHEMA tidegate, {} TO tidegate_worker").format(
            sql.Identifier(contract.chunk_schema)
        ),
        True,
    )


def _roles(connection: Connection, plan: Plan, notes: list[str]) -> list[tuple[str, bool]]:
    old = table_of.reading_roles(plan.published) if plan.published else ()
    named = list(dict.fromkeys((*table_of.reading_roles(plan.contract), *old)))
    found = connection.execute(queries("matrix")["readers"], {"roles": named, "most": MOST_ROLES}).fetchall()
    if found and found[0][3] > len(found):
        notes.append(f"{found[0][3] - len(found)} further roles are not shown")
    for role, _, bypasses, _ in found:
        if bypasses:
            notes.append(f"{role} has BYPASSRLS and sees all rows whatever the rules say")
    return [(role, is_named) for role, is_named, _, _ in found]


def _count(
    connection: Connection, plan: Plan, roles: list[tuple[str, bool]], notes: list[str]
) -> tuple[int | None, tuple[Access, ...]]:
    old, new = plan.published, plan.contract
    if not roles:
        notes.append("no role sees a row")
    found = _where(connection, plan, notes)
    if found is None:
        return None, ()
    table, only = found
    row = sql.Identifier("t")
    nobody = sql.SQL("false")
    seen: list[sql.Composable] = []
    counts: list[sql.Composable] = [sql.SQL("count(*)")]
    for number, (role, _) in enumerate(roles):
        asker = NamedRole(role)
        before, after = sql.Identifier(f"b{number}"), sql.Identifier(f"a{number}")
        seen.append(
            sql.SQL("{} AS {}, {} AS {}").format(
                row_visible(old, row, asker) if old else nobody, before, row_visible(new, row, asker), after
            )
        )
        counts += [
            sql.SQL("count(*) FILTER (WHERE {})").format(condition)
            for condition in (
                before,
                after,
                sql.SQL("{} AND NOT {}").format(after, before),
                sql.SQL("{} AND NOT {}").format(before, after),
            )
        ]
    # OFFSET 0: each condition is evaluated once a row.
    counted = connection.execute(
        sql.SQL("SELECT {} FROM (SELECT {} FROM {} AS t{} OFFSET 0) AS s").format(
            sql.SQL(", ").join(counts), sql.SQL(", ").join(seen) if seen else sql.SQL("1"), table, only
        )
    ).fetchone()
    assert counted is not None
    access = tuple(Access(role, named, *counted[1 + 4 * n : 5 + 4 * n]) for n, (role, named) in enumerate(roles))
    return counted[0], access


def _where(connection: Connection, plan: Plan, notes: list[str]) -> tuple[sql.Composable, sql.Composable] | None:
    """The chunk table's first chunks, where it has all columns that old and new rules read; else the source. None
    where that is on another server: the rules' functions are not there."""
    old, new = plan.published, plan.contract
    needed = {column.name for each in (old, new) if each is not None for column in each.columns_of_rules}
    columns = {
        row[0]
        for row in connection.execute(
            queries("matrix")["chunk_columns"], {"schema": new.chunk_schema, "table": new.table}
        )
    }
    if old is not None and needed <= columns and old.source == new.source:
        return table_of.chunk_table(new), sql.SQL(" WHERE t.chunk_no = 0")
    if plan.source:
        notes.append(f"not counted: the rows are on {plan.source}, and not in the index yet")
        return None
    notes.append("counted on the source table: the index does not have the rows or columns yet")
    return sql.Identifier(new.source.schema, new.source.table), sql.SQL("")


def _masks(contract: Contract) -> dict[str, tuple[Any, frozenset[str]]]:
    return {
        column.name: (column.mask, frozenset(getattr(column.mask, "reveal", ())))
        for column in contract.columns
        if column.mask is not None
    }


def _clear(connection: Connection, plan: Plan, roles: list[str]) -> Iterator[Clear]:
    old = _masks(plan.published) if plan.published else {}
    new = _masks(plan.contract)
    for column in sorted(old.keys() | new.keys()):
        if old.get(column) == new.get(column):
            continue
        for role in roles:
            before, after = (
                column in masks
                and any(
                    connection.execute("SELECT tidegate.acts_as_of(%s, %s)", [role, reveal]).fetchone() == (True,)
                    for reveal in masks[column][1]
                )
                for masks in (old, new)
            )
            if before or after:
                yield Clear(role, column, before, after)
