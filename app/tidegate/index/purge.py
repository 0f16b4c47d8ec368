"""When the ledger forgets the keys of deleted rows.

The ledger keeps a deleted row's key and position, so that no late or repeated event brings the row back. The rule by
which it forgets them:

1. The product is live: no backfill is under way whose rows were read before the delete.
2. The watermark has passed the moment at which the delete was written by `KEEP` (ten minutes, more than the clocks of
   two servers differ). So every change that was committed before the delete has been taken in.
3. The product's `purged_to` is raised to the latest position that is forgotten, in the same transaction, and with the
   product to itself. From then on an event of a key that the ledger does not know is let through only if it is later.

What is repeated after that (a broker that delivers again from an old offset, a worker that was cut off for an hour)
is older than `purged_to` and its key unknown, or the key is known: it is refused either way. No key that is let in for
the first time can be that old, since all of those times has been taken in.
"""

from datetime import timedelta

from tidegate.database import Connection
from tidegate.index.product import Product
from tidegate.sql import queries

KEEP = timedelta(minutes=10)
_MOST = 20_000


def purge(connection: Connection, product: Product, keep: timedelta = KEEP) -> int:
    """Forgets what the rule allows of a product, at most 20,000 keys at a time; returns how many."""
    static = queries("worker")
    parameters = {"product_id": product.product_id, "keep": keep, "most": _MOST}
    if connection.execute(static["purge_worthwhile"], parameters).fetchone() != (True,):
        return 0
    with connection.transaction():
        connection.execute(static["own_product"], parameters)
        return connection.execute(static["purge"], parameters).rowcount
