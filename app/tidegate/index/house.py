"""What a worker does once a second beside its events: figures, backfills, parked rows, upkeep."""

import logging
import threading
from collections.abc import Sequence
from dataclasses import dataclass
from typing import Protocol

import psycopg
from psycopg import sql

from tidegate.capture.source import Source
from tidegate.capture.stream import HOME
from tidegate.database import Connection
from tidegate.errors import TidegateError
from tidegate.index.backfill import ask_here, signal
from tidegate.index.budget import Budgets
from tidegate.index.catalog import Catalog
from tidegate.index.copies import Copies
from tidegate.index.embedding_cache import EmbeddingCache
from tidegate.index.fleet import Fleet
from tidegate.index.item import Item, parked_event
from tidegate.index.lane_queue import BULK_HIGH, BULK_LOW
from tidegate.index.product import Product
from tidegate.index.purge import purge
from tidegate.index.source_check import slot_trouble, source_troubles, suspend_source
from tidegate.index.source_keeper import SourceKeeper
from tidegate.index.source_reader import opened
from tidegate.index.sweep import sweep, sweep_remote
from tidegate.index.upkeep import keep
from tidegate.index.worker_session import WorkerSession
from tidegate.observe.cost_meter import CostMeter
from tidegate.observe.freshness import FreshnessHistogram
from tidegate.sql import queries

log = logging.getLogger(__name__)

HOUSEKEEPING_S = 1.0
_FORGET_EVERY = 600
_PURGE_EVERY = 60
_KEEPER_S = 10.0


class BackfillObserver(Protocol):
    """Who is told of backfills, before the catalog says that they are done."""

    def asked(self, connection: Connection, tables: Sequence[tuple[str, str]]) -> None: ...

    def done(self, connection: Connection, product_id: int) -> None: ...


@dataclass(frozen=True, slots=True)
class Figures:
    """What the lanes count, to be written down."""

    freshness: FreshnessHistogram
    costs: CostMeter
    budgets: Budgets
    cache: EmbeddingCache


class House:
    """A thread of its own, and one a source on another server (source_keeper.py, House).

    Args:
        streaming: set when events have come since the start.
        stopping: ends it, after a last turn.
    """

    def __init__(
        self,
        session: WorkerSession,
        catalog: Catalog,
        figures: Figures,
        *,
        home: Source,
        fleet: Fleet | None,
        backfills: BackfillObserver | None,
        hnsw_from_chunks: int,
        streaming: threading.Event,
        stopping: threading.Event,
    ):
        self._session, self._catalog, self._figures = session, catalog, figures
        self._home, self._fleet, self._backfills = home, fleet, backfills
        self._hnsw_from_chunks = hnsw_from_chunks
        self._streaming, self._stopping = streaming, stopping
        self._static = queries("worker")
        self._thread = threading.Thread(target=self._keep_house, name="house", daemon=True)
        self._builder: threading.Thread | None = None
        self._backfill_paused = False
        self._backfills_checked = False
        self._copies = Copies(
            session,
            catalog,
            figures.budgets,
            lambda: fleet is None or fleet.leads,
            self._filled,
            stopping,
        )
        self._keepers = [] if fleet is None else self._keepers_of(fleet)

    def _keepers_of(self, fleet: Fleet) -> list[SourceKeeper]:
        return [
            SourceKeeper(source, fleet, self, self._session.open, self._stopping)
            for name, source in fleet.sources.items()
            if name != HOME
        ]

    def start(self) -> None:
        self._thread.start()
        for keeper in self._keepers:
            keeper.start()

    def join(self) -> None:
        """Waits for the last turn."""
        if self._thread.is_alive():
            self._thread.join()
        for keeper in self._keepers:
            keeper.join(_KEEPER_S)
        self._copies.join()

    @property
    def bulk_waiting(self) -> int:
        """Backfilled rows that wait."""
        return sum(lane.queue.bulk_waiting for lane in self._catalog.lanes.values())

    def asked(self, connection: Connection, tables: Sequence[tuple[str, str]]) -> None:
        """See source_keeper.py, House; as the next two."""
        if self._backfills is not None:
            self._backfills.asked(connection, tables)

    def finished(self, connection: Connection, there: Connection | None, product_id: int, backfill: int) -> None:
        assert self._fleet is not None
        for product in self._catalog.by_id(product_id):
            self.backfill_done(product, backfill, there)
        self._fleet.settled(connection, product_id, backfill)

    def copy(self, home: Connection, source: Source) -> None:
        """Starts to fill second indexes from the chunks of the first."""

        def place() -> str:
            with self._session.open() if source.name == HOME else opened(source.dsn) as there:
                row = there.execute(queries("remote")["here"]).fetchone()
            assert row is not None
            return str(row[0])

        self._copies.begin(home, source.name, place)

    def check(self, home: Connection, there: Connection, source: Source) -> None:
        """Suspends products whose source was altered so that changes would go by unseen, or could not be read."""
        # Without a fleet the engine finds out that its slot is lost.
        lost = slot_trouble(home, there, source) if self._fleet is not None else None
        if lost is not None:
            suspend_source(home, source.name, lost)
        products = {
            product.product_id: product for product in self._catalog.routes.working if product.source == source.name
        }
        troubles = source_troubles(there, list(products.values()))
        if not troubles:
            return
        # Not by a contract that was replaced a moment ago: the new one may know of what was altered.
        rows = home.execute(self._static["versions"], {"product_ids": list(troubles)}).fetchall()
        for product_id, version in rows:
            if products[product_id].contract.version == version:
                self._catalog.suspend(products[product_id], troubles[product_id])

    def backfill_done(self, product: Product, backfill: int, there: Connection | None = None) -> None:
        """The product's backfill of this number is written; `there` is its source, where that is another database. Or
        a part of the first index's rows is, of which the second is filled."""
        if self._copies.passed(product):
            return
        with self._session.open() as connection:
            parameters = {"product_id": product.product_id, "backfill": backfill}
            if connection.execute(self._static["backfill_awaited"], parameters).fetchone() is None:
                return  # told again, and another one is under way, or none
            ghosts = sweep(connection, product) if there is None else sweep_remote(connection, there, product)
            if ghosts is None:
                return
            log.info("backfill done", extra={"product": product.contract.product, "ghosts": ghosts})
            if self._backfills is not None:
                self._backfills.done(connection, product.product_id)
            done = connection.execute(self._static["backfill_done"], parameters).rowcount
        if done:
            self._filled(product)

    def _filled(self, product: Product) -> None:
        self._catalog.routes.filled(product)
        with self._session.open_owner() as owner:
            owner.execute(sql.SQL("ANALYZE {}").format(product.chunk_table))

    def _keep_house(self) -> None:
        """Once a second; an absent database is tried again at the next turn."""
        connection: Connection | None = None
        turn = 0
        while True:
            last = self._stopping.wait(HOUSEKEEPING_S)
            try:
                if connection is None or connection.closed:
                    connection = self._session.open()
                self._turn(connection, turn)
                turn += 1
            except (psycopg.Error, TidegateError) as error:
                log.warning("housekeeping waits", extra={"reason": str(error)})
                if connection is not None:
                    connection.close()
            if last:
                break
        if connection is not None:
            if self._fleet is not None and not connection.closed:
                self._fleet.leave(connection)
            connection.close()

    def _turn(self, connection: Connection, turn: int) -> None:
        figures = self._figures.freshness.drain()
        if figures is not None:
            connection.execute(self._static["freshness_add"], figures)
        self._figures.cache.write(connection)
        costs = self._figures.costs.drain()
        if costs is not None:
            connection.execute(queries("cost")["cost_add"], costs)
        self._figures.budgets.refresh(connection, self._catalog.routes.all)
        if self._fleet is not None:
            leads = self._fleet.report(connection, self.bulk_waiting)
            if not leads or self._stopping.is_set():
                return
            finished, asked = self._fleet.keep(connection)
            if asked:
                self.asked(connection, asked)
            for product_id, backfill in finished:
                self.finished(connection, None, product_id, backfill)
        elif self._stopping.is_set():
            return
        else:
            self._ask_for_backfills(connection)
            self._regulate_backfill(connection)
        self.copy(connection, self._home)
        self._retry_parked(connection)
        self.check(connection, connection, self._home)
        if turn % 5 == 0:
            self._keep_searchable()
        if turn % _PURGE_EVERY == 0:
            for product in self._catalog.routes.working:
                purge(connection, product)
        if turn % _FORGET_EVERY == 0:
            connection.execute(self._static["freshness_forget"])
            # Debezium has read them from the WAL, not from the table.
            connection.execute(self._static["signals_forget"])
            connection.execute(queries("cost")["cost_forget"])
            self._figures.cache.trim(connection)

    def _ask_for_backfills(self, connection: Connection) -> None:
        """Signals Debezium to read the tables of products that wait for it (incremental snapshot)."""
        if not self._streaming.is_set():
            return  # the engine does not see signals that are older than its start
        rows = connection.execute(self._static["backfills_pending"]).fetchall()
        if not self._backfills_checked:
            rows += connection.execute(self._static["backfills_interrupted"]).fetchall()
            signal(connection, "resume-snapshot", {"type": "incremental"})
        if rows:
            self._catalog.load(connection)  # which of a table's indexes wait for its rows
            tables = ask_here(connection, rows)
            if self._backfills is not None:
                self._backfills.asked(connection, tables)
        self._backfills_checked = True

    def _regulate_backfill(self, connection: Connection) -> None:
        """Pauses Debezium's reading of tables while many rows wait, so that memory stays flat."""
        waiting = self.bulk_waiting
        if not self._backfill_paused and waiting > BULK_HIGH:
            signal(connection, "pause-snapshot", {"type": "incremental"})
            self._backfill_paused = True
        elif self._backfill_paused and waiting < BULK_LOW:
            signal(connection, "resume-snapshot", {"type": "incremental"})
            self._backfill_paused = False

    def _retry_parked(self, connection: Connection) -> None:
        for product in self._catalog.routes.working:
            parameters = {"product_id": product.product_id, "room": self._figures.budgets.room(product)}
            due = connection.execute(self._static["dead_letters_due"], parameters).fetchall()
            if due:
                keys = [key for key, _, _ in due]
                connection.execute(self._static["dead_letters_taken"], {**parameters, "keys": keys})
            for key, position, _ in due:
                event = parked_event(product, key, position)
                self._catalog.lanes[product.model].queue.retry(Item(product, key, event, [], retry=True))

    def _keep_searchable(self) -> None:
        if self._builder is not None and self._builder.is_alive():
            return
        self._builder = threading.Thread(target=self._keep, name="upkeep", daemon=True)
        self._builder.start()

    def _keep(self) -> None:
        try:
            with self._session.open_owner() as owner, self._session.open() as worker:
                keep(owner, worker, self._catalog.routes.all, self._hnsw_from_chunks)
        except (psycopg.Error, TidegateError) as error:
            log.warning("upkeep failed, tried again later", extra={"reason": str(error)})
