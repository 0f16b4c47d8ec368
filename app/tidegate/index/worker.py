"""The worker: takes the stream's events to the lanes, and keeps the house once a second."""

import logging
import threading
import time
from collections.abc import Callable, Iterable, Sequence
from datetime import datetime
from typing import Protocol

import psycopg
from psycopg import sql

from tidegate.capture.acknowledgement import Finishes, Shares
from tidegate.capture.change_event import ChangeEvent, Message, Operation, StreamEvent, TableScanned, Undecodable
from tidegate.capture.partitioning import CATALOG_BEATS
from tidegate.capture.position import Lsn
from tidegate.capture.source import Source
from tidegate.capture.stream import EMBEDDED, HOME, Stream
from tidegate.database import Connection, connect, register_vectors
from tidegate.errors import TidegateError
from tidegate.index.backfill import signal
from tidegate.index.budget import Budgets
from tidegate.index.embedding.embedder import Embedder
from tidegate.index.embedding.registry import Embedders
from tidegate.index.embedding_cache import EmbeddingCache
from tidegate.index.fleet import Fleet
from tidegate.index.indexer import Indexer, Item, parked_event
from tidegate.index.lane import BULK_HIGH, BULK_LOW, Lane, Mark
from tidegate.index.product import Product, Table, Violation, indexes
from tidegate.index.purge import purge
from tidegate.index.routes import Routes
from tidegate.index.source_check import slot_trouble, source_troubles, suspend_source
from tidegate.index.source_keeper import SourceKeeper
from tidegate.index.source_reader import SourceReader
from tidegate.index.sweep import sweep, sweep_remote
from tidegate.index.upkeep import keep
from tidegate.index.write import RowWrite
from tidegate.observe.cost_meter import CostMeter
from tidegate.observe.freshness import FreshnessHistogram
from tidegate.settings import Settings
from tidegate.sql import queries

log = logging.getLogger(__name__)

CONTROL_SCHEMA = "tidegate"
CATALOG_BEAT = 2
"""The row of tidegate.heartbeat that `apply` touches, beside those of partitioning.py. A message could be anybody's."""
_HOUSEKEEPING_S = 1.0
_FORGET_EVERY = 600
_PURGE_EVERY = 60
_KEEPER_S = 10.0


class BackfillObserver(Protocol):
    """Who is told of backfills, before the catalog says that they are done."""

    def asked(self, connection: Connection, tables: Sequence[tuple[str, str]]) -> None: ...

    def done(self, connection: Connection, product_id: int) -> None: ...


class Worker:
    """Receives events (capture/engine.py, Receiver) and sees that each is finished.

    Args:
        fleet: the workers that it is one of; None: it is alone, beside an embedded engine.
    """

    def __init__(
        self,
        dsn: str,
        settings: Settings,
        embedders: Embedders,
        acknowledgements: Finishes,
        backfills: BackfillObserver | None = None,
        fleet: Fleet | None = None,
    ):
        self._dsn = dsn
        self._backfills = backfills
        self._settings = settings
        self._embedders = embedders
        self._acknowledgements = acknowledgements
        self._shares = Shares(acknowledgements)
        self._fleet = fleet
        self._home = Source(HOME, dsn, "", "") if fleet is None else fleet.sources[HOME]
        self._static = queries("worker")
        self._histogram = FreshnessHistogram()
        self._meter = CostMeter()
        self._budgets = Budgets()
        self._cache = EmbeddingCache(settings.embedding_cache_mb, settings.embedding_cache_days)
        self._loading = threading.Lock()
        self._routes = Routes([])
        self._unknown: set[Table] = set()
        self._lanes: dict[str, Lane] = {}
        self._stopping = threading.Event()
        self._streaming = threading.Event()
        self._closed = threading.Event()
        self._backfill_paused = False
        self._house = threading.Thread(target=self._keep_house, name="house", daemon=True)
        self._builder: threading.Thread | None = None
        self._backfills_checked = False
        self._last_beats: dict[str, datetime | None] = {}
        self._keepers = [] if fleet is None else self._keepers_of(fleet)

    def _keepers_of(self, fleet: Fleet) -> list[SourceKeeper]:
        return [
            SourceKeeper(source, fleet, self, self._connect_worker, self._stopping)
            for name, source in fleet.sources.items()
            if name != HOME
        ]

    def start(self) -> None:
        """Reads the catalog and starts a lane for every model. Call before the engine starts."""
        with self._connect_worker() as connection:
            self._load_catalog(connection)
        self._house.start()
        for keeper in self._keepers:
            keeper.start()

    @property
    def streaming(self) -> bool:
        """Whether events have come since the start."""
        return self._streaming.is_set()

    def drain(self, timeout: float) -> bool:
        """Takes no more events and waits until every live change that was taken is written.

        What waits in bulk is left: it is not acknowledged and comes again after the next start.
        """
        self._closed.set()
        deadline = time.monotonic() + timeout
        drained = [lane.drain(max(0.0, deadline - time.monotonic())) for lane in self._lanes.values()]
        return all(drained)

    def stop(self) -> None:
        """Ends all loops after what they hold, and writes the last freshness figures."""
        self._closed.set()
        self._stopping.set()
        for lane in self._lanes.values():
            lane.stop()
        if self._house.is_alive():
            self._house.join()
        for keeper in self._keepers:
            keeper.join(_KEEPER_S)

    @property
    def bulk_waiting(self) -> int:
        """Backfilled rows that wait."""
        return sum(lane.bulk_waiting for lane in self._lanes.values())

    def forget(self, stream: Stream, gone: Callable[[Iterable[int]], bool]) -> None:
        """Drops what waits of a stream that another worker has now; see Lane.forget."""
        for lane in self._lanes.values():
            lane.forget(stream, gone)
        self._shares.forget(gone)

    def receive(self, events: Sequence[tuple[int, StreamEvent]], stream: Stream = EMBEDDED) -> None:
        """See capture/engine.py, Receiver."""
        self._streaming.set()
        if self._closed.is_set():
            return
        marks: dict[str, Mark] = {}
        items: dict[str, list[Item]] = {}
        for number, event in events:
            match event:
                case ChangeEvent():
                    self._receive_change(number, event, items, marks)
                case TableScanned():
                    self._put(items)
                    self._receive_scanned(number, event)
                case Message():
                    self._mark_all(marks, event.position.change, None)
                    self._acknowledgements.finish([number])
                case Undecodable():
                    self._receive_undecodable(number, event)
        self._put(items)
        for model, mark in marks.items():
            self._lanes[model].mark(stream, mark)

    def _put(self, items: dict[str, list[Item]]) -> None:
        """Hands over what came together at once, so that a row that changed often is embedded once."""
        for model, of_model in items.items():
            self._lanes[model].put(of_model)
        items.clear()

    def _receive_change(
        self, number: int, event: ChangeEvent, items: dict[str, list[Item]], marks: dict[str, Mark]
    ) -> None:
        table = (event.source, event.schema, event.table)
        if event.schema == CONTROL_SCHEMA:
            self._receive_beat(event)
            self._mark_all(marks, event.position.change, event.committed_at)
            self._acknowledgements.finish([number])
            return
        routed: list[Item] = []
        for product in self._products_of(table, backfill=event.backfill):
            try:
                key = None if event.operation is Operation.TRUNCATE else product.key_text(event.key or {})
            except Violation as violation:
                if not self._suspend(product, str(violation)):
                    return
            else:
                routed.append(Item(product, key, event.only(product.needed), [number]))
        if not routed:
            self._acknowledgements.finish([number])
        self._shares.split(number, (item.product.model for item in routed))
        for item in routed:
            items.setdefault(item.product.model, []).append(item)
            if not event.backfill:
                _raise_mark(marks, item.product.model, event.position.change, event.committed_at)

    def _receive_beat(self, event: ChangeEvent) -> None:
        """Reads the catalog again where `apply` says so; its beat comes in each partition, of one commit."""
        beat = (event.key or {}).get("heartbeat_id") if event.table == "heartbeat" else None
        if (beat == CATALOG_BEAT or beat in CATALOG_BEATS) and event.committed_at != self._last_beats.get(event.source):
            self._reload_catalog()
            self._last_beats[event.source] = event.committed_at

    def _receive_scanned(self, number: int, event: TableScanned) -> None:
        products = self._products_of((event.source, event.schema, event.table), backfill=True)
        if self._fleet is None and products:
            self._shares.split(number, (product.model for product in products))
            for product in products:
                self._lanes[product.model].put_scanned(number, product)
            return
        # Its rows may be in other partitions, with other workers: the fleet tells when they are all written.
        if all(self._note_scanned(event.source, product.product_id) for product in products):
            self._acknowledgements.finish([number])

    def _note_scanned(self, source: str, product_id: int) -> bool:
        fleet = self._fleet
        assert fleet is not None
        return self._insist("end of scan", lambda connection: fleet.scanned(connection, source, product_id))

    def _receive_undecodable(self, number: int, event: Undecodable) -> None:
        log.error("record is not Debezium's", extra={"place": event.place, "reason": event.reason})
        parameters = {"place": event.place, "reason": event.reason}
        statement = queries("stream")["undecodable_add"]
        if self._insist("dead letter", lambda connection: connection.execute(statement, parameters)):
            self._acknowledgements.finish([number])

    def _mark_all(self, marks: dict[str, Mark], lsn: Lsn, as_of: datetime | None) -> None:
        for model in self._lanes:
            _raise_mark(marks, model, lsn, as_of)

    def _products_of(self, table: Table, *, backfill: bool) -> list[Product]:
        """The indexes that an event of the table goes to; none for a table that is no product's."""
        if not self._routes.knows(table) and table not in self._unknown:
            self._reload_catalog()
            if not self._routes.knows(table):
                self._unknown.add(table)
                log.warning("table is in the publication but no product", extra={"table": ".".join(table[1:])})
        # Of a fleet each worker would have to know at once which index a backfill is for.
        return self._routes.of(table, backfill=backfill and self._fleet is None)

    def _reload_catalog(self) -> None:
        """Reads the catalog again; an absent database is waited for, since no event may pass it."""
        pause = 0.25
        while not self._stopping.is_set():
            try:
                with self._connect_worker() as connection:
                    self._load_catalog(connection)
                return
            except (psycopg.OperationalError, TidegateError) as error:
                log.warning("catalog cannot be read, the stream waits", extra={"reason": str(error), "retry_s": pause})
                self._stopping.wait(pause)
                pause = min(pause * 2, 15.0)

    def _load_catalog(self, connection: Connection) -> None:
        with self._loading:
            products = indexes(connection, self._embedders)
            for product in products:
                if product.model not in self._lanes:
                    product.embedder.prepare()
                    lane = self._lane(product.model, product.embedder)
                    lane.start()
                    self._lanes = {**self._lanes, product.model: lane}
            self._budgets.refresh(connection, products)
            self._routes = Routes(products)
            self._unknown = set()
        log.info("catalog read", extra={"products": len(products), "lanes": len(self._lanes)})

    def _lane(self, model: str, embedder: Embedder) -> Lane:
        live, bulk = (
            Indexer(
                embedder,
                bulk=bulk,
                max_document_chars=self._settings.max_document_chars,
                attempts=self._settings.embedding_attempts,
                reader=SourceReader(self._settings.sources),
                searchable=self._searchable,
                cache=self._cache,
                meter=self._meter,
                budgets=self._budgets,
            )
            for bulk in (False, True)
        )
        return Lane(
            model,
            live=live,
            bulk=bulk,
            connect=self._connect_worker,
            acknowledgements=self._shares.way(model),
            suspend=self._suspend,
            scanned=self._backfill_done,
        )

    def _connect_worker(self) -> Connection:
        connection = connect(self._dsn, role="tidegate_worker", application="tidegate worker")
        register_vectors(connection)
        return connection

    def _searchable(self, product: Product, rows: Sequence[RowWrite], moment: datetime) -> None:
        self._histogram.add(product.product_id, [row.committed_at for row in rows if row.committed_at], moment)

    def _suspend(self, product: Product, reason: str) -> bool:
        """Takes no more events of the product. Written down before any of them is acknowledged: what is skipped
        from now on, only a backfill brings back. False: the worker was stopped before it could be written."""
        name = product.contract.product
        log.error("product suspended", extra={"product": name, "reason": reason})
        self._routes.suspend(product)
        way_out = f'{reason}. When it is mended, "tidegate apply" its contract again: that reads the table anew'
        parameters = {"product_id": product.product_id, "reason": way_out}
        return self._insist(
            f"suspension of {name}", lambda connection: connection.execute(self._static["suspend"], parameters)
        )

    def _insist(self, what: str, act: Callable[[Connection], object]) -> bool:
        """Does it, however long the database is away; False: the worker was stopped before."""
        pause = 0.25
        while not self._stopping.is_set():
            try:
                with self._connect_worker() as connection:
                    act(connection)
                return True
            except (psycopg.Error, TidegateError) as error:
                log.warning("database away, it waits", extra={"what": what, "reason": str(error), "retry_s": pause})
                self._stopping.wait(pause)
                pause = min(pause * 2, 15.0)
        return False

    def asked(self, connection: Connection, tables: Sequence[tuple[str, str]]) -> None:
        """See source_keeper.py, House; as the next two."""
        if self._backfills is not None:
            self._backfills.asked(connection, tables)

    def finished(self, connection: Connection, there: Connection, product_id: int) -> None:
        assert self._fleet is not None
        for product in self._by_id(product_id):
            self._backfill_done(product, there)
        self._fleet.settled(connection, product_id)

    def check(self, home: Connection, there: Connection, source: Source) -> None:
        """Suspends products whose source was altered so that changes would go by unseen, or could not be read."""
        # Without a fleet the engine finds out that its slot is lost.
        lost = slot_trouble(home, there, source) if self._fleet is not None else None
        if lost is not None:
            suspend_source(home, source.name, lost)
        products = {product.product_id: product for product in self._routes.working if product.source == source.name}
        troubles = source_troubles(there, list(products.values()))
        if not troubles:
            return
        # Not by a contract that was replaced a moment ago: the new one may know of what was altered.
        rows = home.execute(self._static["versions"], {"product_ids": list(troubles)}).fetchall()
        for product_id, version in rows:
            if products[product_id].contract.version == version:
                self._suspend(products[product_id], troubles[product_id])

    def _by_id(self, product_id: int) -> list[Product]:
        return [product for product in self._routes.all if product.product_id == product_id]

    def _backfill_done(self, product: Product, there: Connection | None = None) -> None:
        with self._connect_worker() as connection:
            ghosts = sweep(connection, product) if there is None else sweep_remote(connection, there, product)
            if ghosts is None:
                return
            log.info("backfill done", extra={"product": product.contract.product, "ghosts": ghosts})
            if self._backfills is not None:
                self._backfills.done(connection, product.product_id)
            connection.execute(self._static["backfill_done"], {"product_id": product.product_id})
        self._routes.filled(product)
        with connect(self._dsn, role="tidegate_owner", application="tidegate house") as owner:
            owner.execute(sql.SQL("ANALYZE {}").format(product.chunk_table))

    def _keep_house(self) -> None:
        """Once a second; an absent database is tried again at the next turn."""
        connection: Connection | None = None
        turn = 0
        while True:
            last = self._stopping.wait(_HOUSEKEEPING_S)
            try:
                if connection is None or connection.closed:
                    connection = self._connect_worker()
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
        figures = self._histogram.drain()
        if figures is not None:
            connection.execute(self._static["freshness_add"], figures)
        self._cache.write(connection)
        costs = self._meter.drain()
        if costs is not None:
            connection.execute(queries("cost")["cost_add"], costs)
        self._budgets.refresh(connection, self._routes.all)
        if self._fleet is not None:
            leads = self._fleet.report(connection, self.bulk_waiting)
            if not leads or self._stopping.is_set():
                return
            finished, asked = self._fleet.keep(connection)
            if asked:
                self.asked(connection, asked)
            for product_id in finished:
                for product in self._by_id(product_id):
                    self._backfill_done(product)
                self._fleet.settled(connection, product_id)
        elif self._stopping.is_set():
            return
        else:
            self._ask_for_backfills(connection)
            self._regulate_backfill(connection)
        self._retry_parked(connection)
        self.check(connection, connection, self._home)
        if turn % 5 == 0:
            self._keep_searchable()
        if turn % _PURGE_EVERY == 0:
            for product in self._routes.working:
                purge(connection, product)
        if turn % _FORGET_EVERY == 0:
            connection.execute(self._static["freshness_forget"])
            # Debezium has read them from the WAL, not from the table.
            connection.execute(self._static["signals_forget"])
            connection.execute(queries("cost")["cost_forget"])
            self._cache.trim(connection)

    def _ask_for_backfills(self, connection: Connection) -> None:
        """Signals Debezium to read the tables of products that wait for it (incremental snapshot)."""
        if not self._streaming.is_set():
            return  # the engine does not see signals that are older than its start
        tables = connection.execute(self._static["backfills_pending"]).fetchall()
        if not self._backfills_checked:
            tables += connection.execute(self._static["backfills_interrupted"]).fetchall()
            signal(connection, "resume-snapshot", {"type": "incremental"})
            self._backfills_checked = True
        if tables:
            self._load_catalog(connection)  # which of a table's indexes wait for its rows
            names = [f"{schema}.{table}" for schema, table in dict.fromkeys(tables)]
            signal(connection, "execute-snapshot", {"type": "incremental", "data-collections": names})
            log.info("backfill asked for", extra={"tables": names})
            if self._backfills is not None:
                self._backfills.asked(connection, list(dict.fromkeys(tables)))

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
        for product in self._routes.working:
            parameters = {"product_id": product.product_id, "room": self._budgets.room(product)}
            due = connection.execute(self._static["dead_letters_due"], parameters).fetchall()
            if due:
                keys = [key for key, _, _ in due]
                connection.execute(self._static["dead_letters_taken"], {**parameters, "keys": keys})
            for key, position, _ in due:
                event = parked_event(product, key, position)
                self._lanes[product.model].retry(Item(product, key, event, [], retry=True))

    def _keep_searchable(self) -> None:
        if self._builder is not None and self._builder.is_alive():
            return
        self._builder = threading.Thread(target=self._keep, name="upkeep", daemon=True)
        self._builder.start()

    def _keep(self) -> None:
        try:
            with (
                connect(self._dsn, role="tidegate_owner", application="tidegate house") as owner,
                self._connect_worker() as worker,
            ):
                keep(owner, worker, self._routes.all, self._settings.hnsw_from_chunks)
        except (psycopg.Error, TidegateError) as error:
            log.warning("upkeep failed, tried again later", extra={"reason": str(error)})


def _raise_mark(marks: dict[str, Mark], model: str, lsn: Lsn, as_of: datetime | None) -> None:
    held = marks.get(model)
    if held is None:
        marks[model] = Mark(lsn, as_of)
    else:
        held.lsn = max(held.lsn, lsn)
        if as_of is not None:
            held.as_of = as_of if held.as_of is None else max(held.as_of, as_of)
