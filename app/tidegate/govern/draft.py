"""A first contract for a table of a database."""

from difflib import get_close_matches

from psycopg import sql
from psycopg.rows import class_row

from tidegate.contract.draft import draft, product_names
from tidegate.contract.family import Family, family
from tidegate.contract.guess import NotDrafted
from tidegate.contract.table_profile import ColumnProfile, TableProfile
from tidegate.database import Connection
from tidegate.errors import UnknownName
from tidegate.sql import queries

SAMPLE = 1000
"""Rows that are read where Postgres has no statistics of the table."""


def draft_contract(connection: Connection, product: str, table: str | None = None) -> str:
    """A contract for `table` (`schema.table`; by default the product's own name), as YAML.

    Raises:
        UnknownName: there is no such table.
        UsageError: the product's name is none.
        NotDrafted: it cannot have a contract yet (no key, no text); says what to do.
    """
    domain, name = product_names(product)
    schema, dot, source = (table or product).partition(".")
    if not dot:
        schema, source = domain, table or name
    return draft(product, read_profile(connection, schema, source))


def read_profile(connection: Connection, schema: str, table: str) -> TableProfile:
    """What the database knows of a table.

    Raises:
        UnknownName: there is no such table.
        NotDrafted: it is no ordinary one, or it has no primary key.
    """
    static = queries("draft")
    name = f"{schema}.{table}"
    row = connection.execute(static["table_facts"], {"schema": schema, "table": table}).fetchone()
    if row is None:
        tables = [found[0] for found in connection.execute(static["tables"])]
        near = get_close_matches(name, tables, n=3)
        known = near or tables[:10]
        raise UnknownName(f"there is no table {name} here; there are: {', '.join(known) or 'none'}")
    oid, kind, rows, comment = row
    if kind != "r":
        raise NotDrafted(f"{name} is not an ordinary table (relkind {kind}); publish a table, or the partitions singly")
    with connection.cursor(row_factory=class_row(ColumnProfile)) as cursor:
        columns = tuple(cursor.execute(static["column_facts"], {"oid": oid}))
    if not any(column.key_position for column in columns):
        unique = connection.execute(static["unique_columns"], {"oid": oid}).fetchone()
        hint = ", ".join(unique[0]) if unique else next((c.name for c in columns if c.name == "id"), "…")
        raise NotDrafted(
            f"{name} has no primary key, so its rows cannot be told apart; run "
            f"ALTER TABLE {name} ADD PRIMARY KEY ({hint})"
        )
    if all(column.width is None for column in columns):
        columns, rows = _sampled(connection, schema, table, columns)
    info = connection.info
    host = "localhost" if not info.host or info.host.startswith("/") else info.host
    return TableProfile(schema, table, comment, rows, columns, host, info.port, info.dbname)


def _sampled(
    connection: Connection, schema: str, table: str, columns: tuple[ColumnProfile, ...]
) -> tuple[tuple[ColumnProfile, ...], float]:
    """Width and number of distinct values of text and whole numbers, from the first rows; and how many these are."""
    asked = [column for column in columns if _family(column) in (Family.TEXT, Family.CITEXT, Family.INTEGER)]
    parts = [
        sql.SQL("avg(octet_length({0}::text))::float8, count(DISTINCT {0})::float8").format(sql.Identifier(column.name))
        for column in asked
    ]
    statement = sql.SQL("SELECT {} FROM (SELECT * FROM {} LIMIT {}) AS sample").format(
        sql.SQL(", ").join([sql.SQL("count(*)::float8"), *parts]), sql.Identifier(schema, table), sql.Literal(SAMPLE)
    )
    row = connection.execute(statement).fetchone()
    assert row is not None
    if not row[0]:
        return columns, 0.0
    measured = {column.name: (row[1 + 2 * index], row[2 + 2 * index]) for index, column in enumerate(asked)}
    return tuple(_measured(column, *measured.get(column.name, (None, None))) for column in columns), row[0]


def _measured(column: ColumnProfile, width: float | None, distinct_values: float | None) -> ColumnProfile:
    return ColumnProfile(
        column.name,
        column.type,
        column.is_enum,
        column.required,
        column.comment,
        column.key_position,
        width,
        distinct_values,
    )


def _family(column: ColumnProfile) -> Family:
    return family(column.type)
