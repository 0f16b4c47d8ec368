"""Rows of the index that differ from their source, written anew through the ledger."""

from collections.abc import Mapping
from typing import Any

from tidegate.database import Connection
from tidegate.index.indexer import Indexer
from tidegate.index.item import Item, parked_event
from tidegate.index.product import Product
from tidegate.sql import queries


def mend(connection: Connection, product: Product, indexer: Indexer, positions: Mapping[str, str | None]) -> None:
    """Reads the rows from the source and writes them as they are there.

    The order of work is that of a parked row which is tried again. The row is marked, if the ledger still says of it
    what was seen; then it is read and embedded, outside any transaction; then it is written at its own position. A
    change that comes meanwhile has a later one and wins; what is older stays fenced. A row that is gone is removed.

    Args:
        connection: as the worker.
        positions: by the rows' keys as the ledger has them, the positions that were seen; None: no entry.
    """
    parameters: dict[str, Any] = {"product_id": product.product_id}
    with connection.transaction():
        connection.execute(queries("worker")["share_product"], parameters)
        given = {**parameters, "keys": list(positions), "positions": list(positions.values())}
        marked: dict[str, str] = dict(connection.execute(queries("verify")["repair_mark"], given).fetchall())
        given = {**parameters, "keys": list(marked), "positions": list(marked.values())}
        connection.execute(queries("verify")["repair_letter"], given)
    items = [Item(product, key, parked_event(product, key, at), [], retry=True) for key, at in marked.items()]
    if items:
        indexer.process(connection, items)
