"""The publication as capture needs it: every change of a product's table, whole."""

from collections.abc import Iterator

from psycopg import sql

from tidegate.database import Connection
from tidegate.sql import queries, script


def joins(connection: Connection, schema: str, table: str) -> Iterator[sql.Composed]:
    """Statements after which all changes of the table are published; none where they are.

    A publication that was dropped is made again; one that leaves out operations, rows or columns of the table is
    mended, too.
    """
    name = sql.Identifier(schema, table)
    row = connection.execute(queries("govern")["publication"], {"schema": schema, "table": table}).fetchone()
    if row is None:
        yield sql.Composed([sql.SQL(script("publication"))])
    elif not row[0]:
        yield sql.Composed([sql.SQL("ALTER PUBLICATION tidegate SET (publish = 'insert, update, delete, truncate')")])
    if row is not None and row[1] == "whole":
        return
    if row is not None and row[1] == "in part":
        yield sql.SQL("ALTER PUBLICATION tidegate DROP TABLE {}").format(name)
    yield sql.SQL("ALTER PUBLICATION tidegate ADD TABLE {}").format(name)
