"""The products and lanes that the worker knows of, as the catalog had them when it was last read."""

import logging
import threading
from collections.abc import Callable, Mapping

import psycopg

from tidegate.database import Connection
from tidegate.errors import TidegateError
from tidegate.index import pause
from tidegate.index.budget import Budgets
from tidegate.index.embedding.embedder import Embedder
from tidegate.index.embedding.registry import Embedders
from tidegate.index.lane import Lane
from tidegate.index.product import Product, Table, indexes
from tidegate.index.routes import Routes
from tidegate.index.worker_session import WorkerSession
from tidegate.sql import queries

log = logging.getLogger(__name__)


class Catalog:
    """Which lane takes which table's events.

    Args:
        lane: makes the lane of a model.
        alone: no other worker takes part of a table's events.
    """

    def __init__(
        self,
        embedders: Embedders,
        budgets: Budgets,
        lane: Callable[[str, Embedder], Lane],
        session: WorkerSession,
        stopping: threading.Event,
        *,
        alone: bool,
    ):
        self._embedders, self._budgets, self._lane = embedders, budgets, lane
        self._session, self._stopping, self._alone = session, stopping, alone
        self._loading = threading.Lock()
        self._unknown: set[Table] = set()
        self.routes = Routes([])
        self.lanes: Mapping[str, Lane] = {}

    def load(self, connection: Connection) -> None:
        """Reads it, and starts the lanes of models that are new."""
        with self._loading:
            products = indexes(connection, self._embedders)
            for product in products:
                if product.model not in self.lanes:
                    product.embedder.prepare()
                    lane = self._lane(product.model, product.embedder)
                    lane.start()
                    self.lanes = {**self.lanes, product.model: lane}
            self._budgets.refresh(connection, products)
            self.routes = Routes(products)
            self._unknown = set()
        log.info("catalog read", extra={"products": len(products), "lanes": len(self.lanes)})

    def reload(self) -> None:
        """Reads the catalog again; an absent database is waited for, since no event may pass it."""
        pauses = pause.pauses()
        while not self._stopping.is_set():
            try:
                with self._session.open() as connection:
                    self.load(connection)
                return
            except (psycopg.OperationalError, TidegateError) as error:
                log.warning(
                    "catalog cannot be read, the stream waits", extra={"reason": str(error), "retry_s": pauses.seconds}
                )
                pauses.wait(self._stopping)

    def products_of(self, table: Table, *, backfill: bool) -> list[Product]:
        """The indexes that an event of the table goes to; none for a table that is no product's."""
        if not self.routes.knows(table) and table not in self._unknown:
            self.reload()
            if not self.routes.knows(table):
                self._unknown.add(table)
                log.warning("table is in the publication but no product", extra={"table": ".".join(table[1:])})
        # Of a fleet each worker would have to know at once which index a backfill is for.
        return self.routes.of(table, backfill=backfill and self._alone)

    def by_id(self, product_id: int) -> list[Product]:
        """The index of this number, if it is known."""
        return [product for product in self.routes.all if product.product_id == product_id]

    def suspend(self, product: Product, reason: str) -> bool:
        """Takes no more events of the product. Written down before any of them is acknowledged: what is skipped
        from now on, only a backfill brings back. False: the worker was stopped before it could be written."""
        name = product.contract.product
        log.error("product suspended", extra={"product": name, "reason": reason})
        self.routes.suspend(product)
        way_out = f'{reason}. When it is mended, "tidegate apply" its contract again: that reads the table anew'
        parameters = {"product_id": product.product_id, "reason": way_out}
        return self._session.insist(
            f"suspension of {name}", lambda connection: connection.execute(queries("worker")["suspend"], parameters)
        )
