"""The second indexes that are being filled from the chunks of the first, each by a thread of its own."""

import threading
from collections.abc import Callable
from datetime import datetime

from tidegate.database import Connection
from tidegate.index.budget import Budgets
from tidegate.index.catalog import Catalog
from tidegate.index.chunk_copy import ChunkCopy
from tidegate.index.product import Product
from tidegate.index.worker_session import WorkerSession
from tidegate.sql import queries


class Copies:
    """What of them this worker sees to.

    Args:
        leads: whether this worker keeps the house of all.
        done: told of an index that is live.
    """

    def __init__(
        self,
        session: WorkerSession,
        catalog: Catalog,
        budgets: Budgets,
        leads: Callable[[], bool],
        done: Callable[[Product], None],
        stopping: threading.Event,
    ):
        self._session, self._catalog, self._budgets = session, catalog, budgets
        self._leads, self._done, self._stopping = leads, done, stopping
        self._static = queries("beside")
        self._known: dict[int, ChunkCopy] = {}

    def begin(self, connection: Connection, source: str, place: Callable[[], str]) -> None:
        """Starts what is due of the products of a source.

        Args:
            place: where the source's WAL is.
        """
        connection.execute(self._static["copies_begin"], {"source": source})
        # When contracts were applied before the catalog is read: if one is applied between, the copy ends by that.
        for product_id, applied_at in connection.execute(self._static["copies_due"], {"source": source}).fetchall():
            known = self._known.get(product_id)
            if known is not None and known.running:
                continue
            self._catalog.load(connection)
            for second in self._catalog.by_id(product_id):
                for first in self._catalog.by_id(second.first_id or 0):
                    self._known[product_id] = self._copy(first, second, applied_at, place)
                    self._known[product_id].start()

    def _copy(self, first: Product, second: Product, applied_at: datetime, place: Callable[[], str]) -> ChunkCopy:
        return ChunkCopy(
            first,
            second,
            applied_at,
            self._catalog.lanes[second.model].queue,
            self._budgets,
            self._session.open,
            place,
            self._leads,
            self._done,
            self._stopping,
        )

    def passed(self, product: Product) -> bool:
        """What was put of the product is written; False: it is not being copied."""
        known = self._known.get(product.product_id)
        if known is None or not known.running:
            return False
        known.passed.set()
        return True

    def join(self) -> None:
        """Waits for their ends."""
        for known in self._known.values():
            known.join()
