"""Whether sources still are what contracts and capture need: what was altered is named, before it does harm.

Each of these lets changes go by unseen, or makes them unreadable: so the product is suspended, with the reason.
"""

from collections.abc import Sequence
from typing import Any

from tidegate.capture.source import Source
from tidegate.database import Connection
from tidegate.index.product import Product
from tidegate.sql import queries

ALL_CHANGES = "insert, update, delete, truncate"


def source_troubles(there: Connection, products: Sequence[Product]) -> dict[int, str]:
    """What is wrong with the products' tables, by product_id; nothing for those that are as they should be.

    Args:
        there: a connection to the source that has the tables.
    """
    if not products:
        return {}
    static = queries("source_check")
    row = there.execute(static["publication"]).fetchone()
    if row is None:
        return dict.fromkeys((p.product_id for p in products), 'the publication "tidegate" was dropped')
    if not row[0]:
        reason = f'the publication "tidegate" leaves changes out: it must publish {ALL_CHANGES}'
        return dict.fromkeys((p.product_id for p in products), reason)
    by_id = {product.product_id: product for product in products}
    places: dict[str, list[Any]] = {
        "products": list(by_id),
        "schemas": [product.contract.source.schema for product in products],
        "tables": [product.contract.source.table for product in products],
    }
    found = {}
    for product_id, *facts in there.execute(static["tables"], places).fetchall():
        trouble = _table_trouble(by_id[product_id], facts)
        if trouble is not None:
            found[product_id] = trouble
    columns = [(product, column) for product in products for column in product.contract.read_columns]
    parameters = {
        "products": [product.product_id for product, _ in columns],
        "schemas": [product.contract.source.schema for product, _ in columns],
        "tables": [product.contract.source.table for product, _ in columns],
        "columns": [column.name for _, column in columns],
        "types": [column.physical_type for _, column in columns],
    }
    for product_id, *facts in there.execute(static["columns"], parameters).fetchall():
        found.setdefault(product_id, _column_trouble(by_id[product_id], facts))
    return found


def slot_trouble(home: Connection, there: Connection, source: Source) -> str | None:
    """What is wrong with the slot of a source whose changes have come through Kafka; with the way out."""
    row = there.execute(queries("source_check")["slot"], {"slot": source.slot}).fetchone()
    if row == (True,):
        return None
    was_read = home.execute(queries("source_check")["was_read"], {"source": source.name}).fetchone() == (True,)
    if row is None and not was_read:
        return None
    command = "tidegate recover-slot" + (f" --source {source.name}" if source.name else "")
    how = "is gone" if row is None else "was invalidated: the server removed WAL that it needed"
    return (
        f'replication slot "{source.slot}" {how}; the changes since are lost. Run "tidegate connect delete", '
        f'"{command}" and "tidegate connect apply": that starts a new one and reads all products again'
    )


def suspend_source(connection: Connection, source: str, reason: str) -> None:
    """All products of a source are suspended; "tidegate recover-slot" ends that.

    In the catalog only: nothing comes of the source, so that no worker need be told.
    """
    connection.execute(queries("worker")["suspend_source"], {"source": source, "reason": reason})


def _table_trouble(product: Product, facts: Sequence[Any]) -> str | None:
    kind, identity, key, key_is_identity, published, filtered = facts
    name = f"{product.contract.source.schema}.{product.contract.source.table}"
    wanted = list(product.key_names)
    trouble = None
    if kind is None:
        trouble = f"table {name} was dropped or renamed"
    elif kind != "r":
        trouble = f"{name} is no ordinary table any more"
    elif not published:
        trouble = f"table {name} is no longer in the publication"
    elif filtered:
        trouble = f"the publication leaves out rows of {name}"
    elif key is None:
        trouble = f"{name} has no primary key any more; the contract says ({', '.join(wanted)})"
    elif key != wanted:
        trouble = f"the table's key is ({', '.join(key)}), the contract says ({', '.join(wanted)})"
    elif identity == "n" or (identity == "i" and not key_is_identity):
        what = "NOTHING" if identity == "n" else "another index than the primary key"
        trouble = (
            f"{name} has {what} as its REPLICA IDENTITY, so updates and deletes do not name their row; "
            f"run ALTER TABLE {name} REPLICA IDENTITY DEFAULT"
        )
    return trouble


def _column_trouble(product: Product, facts: Sequence[Any]) -> str:
    name, wanted, actual, retyped = facts
    table = f"{product.contract.source.schema}.{product.contract.source.table}"
    if actual is None:
        return f"contract column {name} is missing in {table}; restore it, or apply a contract without it"
    if retyped:
        return f"column {name} is {actual} in {table}, the contract says {wanted}"
    return f"the publication leaves out column {name} of {table}"
