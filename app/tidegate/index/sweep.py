"""Chunks whose source row is not there: left behind by deletes that no stream delivered (a lost slot)."""

from psycopg import sql
from psycopg.rows import dict_row

from tidegate.database import Connection
from tidegate.index.clear_values import ClearWriter
from tidegate.index.product import Product
from tidegate.sql import queries

PAGE = 1_000


def sweep(connection: Connection, product: Product) -> int | None:
    """Removes the product's chunks without a source row, and notes their keys as deleted. Returns how many rows;
    None where the index has been dropped.

    One statement sees chunks and source at one moment, and a chunk is only ever written after its row was
    committed: what is swept is really gone, and a later re-insert comes with a later position.
    """
    parameters = {"product_id": product.product_id}
    with connection.transaction(), connection.cursor(row_factory=dict_row) as cursor:
        cursor.execute(queries("worker")["own_product"], parameters)
        place = cursor.execute(queries("worker")["product_place"], parameters).fetchone()
        if place is None:
            return None
        product = product.at(place["chunk_schema"])
        rows = cursor.execute(_statement(product)).fetchall()
        keys = {
            product.key_text({name: value if isinstance(value, int) else str(value) for name, value in row.items()})
            for row in rows
        }
        ClearWriter(product).sweep(cursor)
        cursor.execute(queries("worker")["ledger_forget"], {**parameters, "keys": list(keys)})
    return len(keys)


def sweep_remote(connection: Connection, there: Connection, product: Product) -> int | None:
    """The same where the source is another database, a page of keys at a time. Returns how many rows; None where the
    index has been dropped.

    The index is looked at first, then the source: a row that is not there any more goes, unless something was written
    of it since that look, which then was committed later than what the look saw. A re-insert that comes after has a
    later position than the ledger keeps.

    Raises:
        psycopg.Error: one of the two databases is away, or the source cannot be read; what was swept stays swept.
    """
    static = queries("remote")
    swept, after = 0, ""
    while True:
        page = {"product_id": product.product_id, "after": after, "rows": PAGE}
        known: dict[str, str] = dict(connection.execute(static["indexed_page"], page).fetchall())
        if not known:
            return swept
        after = list(known)[-1]
        rows, parameters = product.key_match(list(known))
        statement = sql.SQL("SELECT n.key FROM {} WHERE NOT EXISTS (SELECT FROM {} AS s WHERE {})").format(
            rows, product.source_table, product.matches
        )
        with there.transaction():
            product.guard(there)
            gone = [row[0] for row in there.execute(statement, parameters)]
        if gone:
            removed = _remove(connection, product, {key: known[key] for key in gone})
            if removed is None:
                return None
            swept += removed


def _remove(connection: Connection, product: Product, positions: dict[str, str]) -> int | None:
    with connection.transaction(), connection.cursor(row_factory=dict_row) as cursor:
        parameters = {"product_id": product.product_id, "keys": list(positions), "positions": list(positions.values())}
        cursor.execute(queries("worker")["share_product"], parameters)
        place = cursor.execute(queries("worker")["product_place"], parameters).fetchone()
        if place is None:
            return None
        product = product.at(place["chunk_schema"])
        keys = [row["key"] for row in cursor.execute(queries("remote")["still_at"], parameters).fetchall()]
        rows, values = product.key_match(keys)
        chunks = sql.SQL("DELETE FROM {} AS s USING {} WHERE {}").format(product.chunk_table, rows, product.matches)
        cursor.execute(chunks, values)
        ClearWriter(product).sweep(cursor)
        cursor.execute(queries("worker")["ledger_forget"], {"product_id": product.product_id, "keys": keys})
    return len(keys)


def _statement(product: Product) -> sql.Composed:
    names = [sql.Identifier(name) for name in product.key_names]
    return sql.SQL(
        "DELETE FROM {chunks} AS c WHERE NOT EXISTS (SELECT FROM {source} AS s WHERE {match}) RETURNING {keys}"
    ).format(
        chunks=product.chunk_table,
        source=product.source_table,
        match=sql.SQL(" AND ").join(sql.SQL("s.{} = c.{}").format(name, name) for name in names),
        keys=sql.SQL(", ").join(sql.SQL("c.{}").format(name) for name in names),
    )
