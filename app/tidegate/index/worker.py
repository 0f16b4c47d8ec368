"""The worker: takes the stream's events to the lanes, and keeps the house once a second."""

import logging
import threading
import time
from collections.abc import Callable, Iterable, Sequence
from datetime import datetime

from tidegate.capture.acknowledgement import Finishes, Shares
from tidegate.capture.change_event import ChangeEvent, Message, Operation, StreamEvent, TableScanned, Undecodable
from tidegate.capture.partitioning import CATALOG_BEATS
from tidegate.capture.position import Lsn
from tidegate.capture.source import Source
from tidegate.capture.stream import EMBEDDED, HOME, Stream
from tidegate.index.budget import Budgets
from tidegate.index.catalog import Catalog
from tidegate.index.embedding.embedder import Embedder
from tidegate.index.embedding.registry import Embedders
from tidegate.index.embedding_cache import EmbeddingCache
from tidegate.index.fleet import Fleet
from tidegate.index.house import BackfillObserver, Figures, House
from tidegate.index.indexer import Indexer
from tidegate.index.item import Item
from tidegate.index.lane import Lane
from tidegate.index.lane_queue import Mark
from tidegate.index.product import Product, Violation
from tidegate.index.source_reader import SourceReader
from tidegate.index.worker_session import WorkerSession
from tidegate.index.write import RowWrite
from tidegate.observe.cost_meter import CostMeter
from tidegate.observe.freshness import FreshnessHistogram
from tidegate.settings import Settings
from tidegate.sql import queries

log = logging.getLogger(__name__)

CONTROL_SCHEMA = "tidegate"
CATALOG_BEAT = 2
"""The row of tidegate.heartbeat that `apply` touches, beside those of partitioning.py. A message could be anybody's."""


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
        self._settings = settings
        self._acknowledgements = acknowledgements
        self._shares = Shares(acknowledgements)
        self._fleet = fleet
        self._stopping = threading.Event()
        self._streaming = threading.Event()
        self._closed = threading.Event()
        self._last_beats: dict[str, datetime | None] = {}
        self._streams: set[Stream] = set()
        self._figures = Figures(
            FreshnessHistogram(),
            CostMeter(),
            Budgets(),
            EmbeddingCache(settings.embedding_cache_mb, settings.embedding_cache_days),
        )
        self._session = WorkerSession(dsn, self._stopping)
        self._catalog = Catalog(
            embedders, self._figures.budgets, self._lane, self._session, self._stopping, alone=fleet is None
        )
        self._house = House(
            self._session,
            self._catalog,
            self._figures,
            home=Source(HOME, dsn, "", "") if fleet is None else fleet.sources[HOME],
            fleet=fleet,
            backfills=backfills,
            hnsw_from_chunks=settings.hnsw_from_chunks,
            streaming=self._streaming,
            stopping=self._stopping,
        )

    def start(self) -> None:
        """Reads the catalog and starts a lane for every model. Call before the engine starts."""
        with self._session.open() as connection:
            self._catalog.load(connection)
        self._house.start()

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
        drained = [lane.queue.drain(max(0.0, deadline - time.monotonic())) for lane in self._catalog.lanes.values()]
        return all(drained)

    def stop(self) -> None:
        """Ends all loops after what they hold, and writes the last freshness figures."""
        self._closed.set()
        self._stopping.set()
        for lane in self._catalog.lanes.values():
            lane.stop()
        self._house.join()

    @property
    def bulk_waiting(self) -> int:
        """Backfilled rows that wait."""
        return self._house.bulk_waiting

    def forget(self, stream: Stream, gone: Callable[[Iterable[int]], bool]) -> None:
        """Drops what waits of a stream that another worker has now; see LaneQueue.forget."""
        for lane in self._catalog.lanes.values():
            lane.queue.forget(stream, gone)
        self._shares.forget(gone)
        self._streams.discard(stream)

    def receive(self, events: Sequence[tuple[int, StreamEvent]], stream: Stream = EMBEDDED) -> None:
        """See capture/engine.py, Receiver."""
        self._streaming.set()
        if self._closed.is_set():
            return
        if self._fleet is not None and stream not in self._streams:
            # Who had it may have been further in it than this worker is in others, and have passed an apply's beat.
            self._catalog.reload()
            self._streams.add(stream)
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
            self._catalog.lanes[model].queue.mark(stream, mark)

    def _put(self, items: dict[str, list[Item]]) -> None:
        """Hands over what came together at once, so that a row that changed often is embedded once."""
        for model, of_model in items.items():
            self._catalog.lanes[model].queue.put(of_model)
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
        for product in self._catalog.products_of(table, backfill=event.backfill):
            try:
                key = None if event.operation is Operation.TRUNCATE else product.key_text(event.key or {})
            except Violation as violation:
                if not self._catalog.suspend(product, str(violation)):
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
            self._catalog.reload()
            self._last_beats[event.source] = event.committed_at

    def _receive_scanned(self, number: int, event: TableScanned) -> None:
        products = self._catalog.products_of((event.source, event.schema, event.table), backfill=True)
        if event.failure is not None or not event.backfill:
            noted = self._read_again(event, [product.product_id for product in products])
        elif self._fleet is None and products:
            self._shares.split(number, (product.model for product in products))
            for product in products:
                self._catalog.lanes[product.model].queue.put_scanned(number, product, event.backfill)
            return
        else:
            # Its rows may be in other partitions, with other workers: the fleet tells when they are all written.
            noted = all(self._note_scanned(event, product.product_id) for product in products)
        if noted:
            self._acknowledgements.finish([number])

    def _note_scanned(self, event: TableScanned, product_id: int) -> bool:
        fleet = self._fleet
        assert fleet is not None
        return self._session.insist(
            "end of scan", lambda connection: fleet.scanned(connection, event.source, product_id, event.backfill)
        )

    def _read_again(self, event: TableScanned, product_ids: list[int]) -> bool:
        """Whoever keeps the house asks for the table anew, if this was the backfill that is waited for."""
        reason = event.failure or "nobody knows of which backfill this was the end"
        log.warning("table is read again", extra={"table": f"{event.schema}.{event.table}", "reason": reason})
        parameters = {"product_ids": product_ids, "backfill": event.backfill}
        return self._session.insist(
            "end of scan", lambda connection: connection.execute(queries("worker")["backfill_again"], parameters)
        )

    def _receive_undecodable(self, number: int, event: Undecodable) -> None:
        log.error("record is not Debezium's", extra={"place": event.place, "reason": event.reason})
        parameters = {"place": event.place, "reason": event.reason}
        statement = queries("stream")["undecodable_add"]
        if self._session.insist("dead letter", lambda connection: connection.execute(statement, parameters)):
            self._acknowledgements.finish([number])

    def _mark_all(self, marks: dict[str, Mark], lsn: Lsn, as_of: datetime | None) -> None:
        for model in self._catalog.lanes:
            _raise_mark(marks, model, lsn, as_of)

    def _lane(self, model: str, embedder: Embedder) -> Lane:
        live, bulk = (
            Indexer(
                embedder,
                bulk=bulk,
                max_document_chars=self._settings.max_document_chars,
                attempts=self._settings.embedding_attempts,
                reader=SourceReader(self._settings.sources),
                searchable=self._searchable,
                cache=self._figures.cache,
                meter=self._figures.costs,
                budgets=self._figures.budgets,
            )
            for bulk in (False, True)
        )
        return Lane(
            model,
            live=live,
            bulk=bulk,
            connect=self._session.open,
            acknowledgements=self._shares.way(model),
            suspend=self._catalog.suspend,
            scanned=self._house.backfill_done,
        )

    def _searchable(self, product: Product, rows: Sequence[RowWrite], moment: datetime) -> None:
        self._figures.freshness.add(product.product_id, [row.committed_at for row in rows if row.committed_at], moment)


def _raise_mark(marks: dict[str, Mark], model: str, lsn: Lsn, as_of: datetime | None) -> None:
    held = marks.get(model)
    if held is None:
        marks[model] = Mark(lsn, as_of)
    else:
        held.lsn = max(held.lsn, lsn)
        if as_of is not None:
            held.as_of = as_of if held.as_of is None else max(held.as_of, as_of)
