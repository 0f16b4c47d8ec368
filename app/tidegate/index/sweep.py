"""Chunks whose source row is not there: left behind by deletes that no stream delivered (a lost slot)."""

from psycopg import sql
from psycopg.rows import dict_row

from tidegate.database import Connection
from tidegate.index.clear_values import ClearWriter
from tidegate.index.product import Product
from tidegate.sql import queries


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
