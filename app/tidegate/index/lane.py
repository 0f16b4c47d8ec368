"""A lane: everything of one embedding model, so that a model that is slow or away holds up only its own.

Two loops work on it, each on its own connection: live changes, and behind them what comes in bulk (backfilled
rows, very long documents). They may write the same row in either order; the ledger lets the newer one stand.
"""

import itertools
import logging
import threading
import time
from collections.abc import Callable, Iterable, Sequence
from dataclasses import dataclass
from datetime import datetime
from typing import Any

import psycopg

from tidegate.capture.acknowledgement import Finishes
from tidegate.capture.change_event import Operation
from tidegate.capture.position import Lsn, lsn_text
from tidegate.capture.stream import Stream
from tidegate.database import Connection, ConnectionFailed
from tidegate.errors import TidegateError
from tidegate.index import waiting
from tidegate.index.indexer import Indexer, Item
from tidegate.index.product import Product
from tidegate.index.waiting import Key

log = logging.getLogger(__name__)

LIVE_BATCH = 512
BULK_BATCH = 128
LIVE_LIMIT = 20_000
BULK_HIGH = 4_000
BULK_LOW = 1_000
_RETRY_FIRST_S, _RETRY_MOST_S = 0.25, 15.0
_WRITE_ATTEMPTS = 5


@dataclass(slots=True)
class Mark:
    """A place in a stream: everything of it that was committed before has been put."""

    lsn: Lsn
    as_of: datetime | None


@dataclass(frozen=True, slots=True)
class Scanned:
    """All rows of the product's backfill have been put."""

    product: Product
    numbers: list[int]


class Lane:
    """The queue of one model and the two loops that empty it.

    Args:
        connect: opens a connection as the worker; raises TidegateError while the database is away.
        suspend: told of a product that cannot be written at all; says whether it noted that.
        scanned: told when a product's backfill is in the index.
    """

    def __init__(
        self,
        model: str,
        *,
        live: Indexer,
        bulk: Indexer,
        connect: Callable[[], Connection],
        acknowledgements: Finishes,
        suspend: Callable[[Product, str], bool],
        scanned: Callable[[Product], None],
    ):
        self.model = model
        self._live_indexer, self._bulk_indexer = live, bulk
        self._connect = connect
        self._acknowledgements = acknowledgements
        self._suspend, self._scanned = suspend, scanned
        self._changed = threading.Condition()
        self._live: dict[Key, Item] = {}
        self._bulk: dict[Key, Item | Scanned] = {}
        self._later: list[tuple[float, Item]] = []
        self._held: set[int] = set()
        self._marks: dict[Stream, Mark] = {}
        self._working: set[str] = set()
        self._stopping = False
        self._threads = [
            threading.Thread(target=self._work, args=(name, take, indexer), name=f"{name}:{model}", daemon=True)
            for name, take, indexer in (("live", self._take_live, live), ("bulk", self._take_bulk, bulk))
        ]

    def start(self) -> None:
        for thread in self._threads:
            thread.start()

    def drain(self, timeout: float) -> bool:
        """Waits until every live change is written; False when `timeout` seconds are up before."""
        with self._changed:
            self._bulk.clear()
            # A mark that waits for rows which were held up in bulk is not written: they come again.
            return self._changed.wait_for(
                lambda: not (self._live or self._later or self._working or (self._marks and not self._held)),
                timeout,
            )

    def stop(self) -> None:
        """Ends both loops after what they hold; what waits comes again after the next start."""
        with self._changed:
            self._stopping = True
            self._live.clear()
            self._bulk.clear()
            self._later.clear()
            self._changed.notify_all()
        for thread in self._threads:
            thread.join()

    @property
    def bulk_waiting(self) -> int:
        """Rows that wait in bulk."""
        return len(self._bulk)

    def put(self, items: Sequence[Item]) -> None:
        """Takes what came together, in stream order; blocks while too many rows wait."""
        with self._changed:
            for item in items:
                while len(self._live) >= LIVE_LIMIT or len(self._bulk) >= LIVE_LIMIT:
                    self._changed.notify_all()
                    self._changed.wait(1.0)
                    if self._stopping:
                        return
                if item.event.operation is Operation.TRUNCATE:
                    item.numbers += self._remove(item)
                queue: dict[Key, Any] = self._bulk if item.event.backfill else self._live
                self._supersede(queue, item)
            self._changed.notify_all()

    def retry(self, item: Item) -> None:
        """Takes a parked row that is tried again, unless a newer event of it waits already."""
        with self._changed:
            if (item.product.product_id, item.key) not in self._live:
                self._live[(item.product.product_id, item.key)] = item
                self._changed.notify_all()

    def mark(self, stream: Stream, mark: Mark) -> None:
        """Everything of the stream that was committed before has been put."""
        with self._changed:
            held = self._marks.get(stream)
            if held is not None:
                mark = Mark(max(mark.lsn, held.lsn), mark.as_of or held.as_of)
            self._marks[stream] = mark
            self._changed.notify_all()

    def forget(self, stream: Stream, gone: Callable[[Iterable[int]], bool]) -> None:
        """Drops what waits of a stream that another worker has now; its mark too, which would speak for it.

        Args:
            gone: whether these numbers are of such a stream.
        """
        with self._changed:
            self._marks.pop(stream, None)
            for queue in (self._live, self._bulk):
                for key, entry in list(queue.items()):
                    if entry.numbers and gone(entry.numbers):
                        del queue[key]
                        self._held.discard(id(entry))
            for due, item in list(self._later):
                if item.numbers and gone(item.numbers):
                    self._later.remove((due, item))
                    self._held.discard(id(item))
            self._changed.notify_all()

    def put_scanned(self, number: int, product: Product) -> None:
        """The product's backfill has been read."""
        with self._changed:
            self._bulk[(product.product_id, f"\x00scanned {number}")] = Scanned(product, [number])
            self._changed.notify_all()

    def _remove(self, truncate: Item) -> list[int]:
        """Drops what waits of the product from before the truncate, and gives its numbers: it stands for them."""
        product_id, position = truncate.product.product_id, truncate.event.position
        numbers: list[int] = []

        def older(item: Item | Scanned) -> bool:
            return isinstance(item, Item) and item.product.product_id == product_id and item.event.position < position

        for queue in (self._live, self._bulk):
            for key in [key for key, item in queue.items() if older(item)]:
                item = queue.pop(key)
                self._held.discard(id(item))
                numbers += item.numbers
        for due, item in [entry for entry in self._later if older(entry[1])]:
            self._later.remove((due, item))
            self._held.discard(id(item))
            numbers += item.numbers
        return numbers

    def _supersede(self, queue: dict[Key, Any], item: Item) -> None:
        """The newest event of a row stands for the older ones that wait: it alone is embedded and written.

        It takes their place in the queue: a row that changes without end is not put off without end, and no
        row of a backfill gets behind the backfill's end.
        """
        key = (item.product.product_id, item.key)
        other = queue.get(key)
        if other is not None:
            newest, older = (item, other) if item.event.position >= other.event.position else (other, item)
            newest.numbers += older.numbers
            if id(older) in self._held:
                self._held.discard(id(older))
                self._held.add(id(newest))
            item = newest
        queue[key] = item

    def _take_live(self) -> tuple[list[Item], dict[Stream, Mark]]:
        with self._changed:
            while True:
                now = time.monotonic()
                for due, item in [entry for entry in self._later if entry[0] <= now]:
                    self._later.remove((due, item))
                    self._held.discard(id(item))
                    self._supersede(self._live, item)
                if self._live or self._marks or self._stopping:
                    break
                wait = min((due for due, _ in self._later), default=now + 60.0) - now
                self._changed.wait(max(wait, 0.001))
            items = waiting.take(self._live, LIVE_BATCH)
            marks: dict[Stream, Mark] = {}
            if not self._live and not self._held:
                marks, self._marks = self._marks, {}
            elif not items and not self._stopping:
                self._changed.wait(0.05)  # the mark waits for rows that are held up
            if items or marks:
                self._working.add("live")
            self._changed.notify_all()
            return items, marks

    def _take_bulk(self) -> tuple[list[Item], Scanned | None]:
        with self._changed:
            while not self._bulk and not self._stopping:
                self._changed.wait(60.0)
            items: list[Item] = []
            scanned: Scanned | None = None
            for key, entry in itertools.islice(list(self._bulk.items()), BULK_BATCH):
                if isinstance(entry, Scanned):
                    if not items:
                        scanned = entry
                        del self._bulk[key]
                    break
                del self._bulk[key]
                items.append(entry)
            if items or scanned:
                self._working.add("bulk")
            self._changed.notify_all()
            return items, scanned

    def _work(self, name: str, take: Callable[[], tuple[list[Item], Any]], indexer: Indexer) -> None:
        connection: Connection | None = None
        while True:
            items, behind = take()
            if isinstance(behind, Scanned):
                self._end_backfill(behind)
            elif items or behind:
                connection = self._process(name, connection, indexer, items, behind or {})
            elif self._stopping:
                break
            with self._changed:
                self._working.discard(name)
                self._changed.notify_all()
        if connection is not None:
            connection.close()
        indexer.close()

    def _end_backfill(self, scanned: Scanned) -> None:
        """Tells that a backfill is in the index; while the database is away it waits, else nobody ever would. What
        the database refuses again and again suspends the product: others wait behind it."""
        pause, failures = _RETRY_FIRST_S, 0
        while self._waits_again(scanned.product) and not self._stopping:
            time.sleep(_RETRY_FIRST_S)
        while True:
            try:
                self._scanned(scanned.product)
            except (psycopg.Error, TidegateError) as error:
                log.warning("end of backfill waits", extra={"reason": str(error), "retry_s": pause})
                failures += isinstance(error, psycopg.Error) and not isinstance(error, psycopg.OperationalError)
                if failures >= _WRITE_ATTEMPTS and self._suspend(scanned.product, _reason(error)):
                    self._acknowledgements.finish(scanned.numbers)
                    return
            else:
                self._acknowledgements.finish(scanned.numbers)
                return
            if self._stopping:
                return
            time.sleep(pause)
            pause = min(pause * 2, _RETRY_MOST_S)

    def _waits_again(self, product: Product) -> bool:
        """Whether rows of the product wait for a model that did not answer."""
        with self._changed:
            return any(item.product.product_id == product.product_id for _, item in self._later)

    def _process(
        self, name: str, connection: Connection | None, indexer: Indexer, items: list[Item], marks: dict[Stream, Mark]
    ) -> Connection | None:
        """Processes a batch until it is done: an absent database is waited for, a product in the way suspended."""
        pause, failures = _RETRY_FIRST_S, 0
        while True:
            try:
                if connection is None or connection.closed:
                    connection = self._connect()
                outcome = indexer.process(connection, items, self._watermarks(marks), lambda: self._others_wait(items))
            except (psycopg.OperationalError, TidegateError) as error:
                log.warning(
                    "database away, the batch waits",
                    extra={
                        "lane": self.model,
                        "loop": name,
                        "rows": len(items),
                        "reason": str(error),
                        "retry_s": pause,
                    },
                )
                connection = _closed(connection)
            except Exception as error:  # whatever it is: the lane goes on, and the log says so
                failures += 1
                reason = _reason(error)
                log.error("batch failed", extra={"lane": self.model, "rows": len(items), "reason": reason})
                connection = _closed(connection)
                if failures >= _WRITE_ATTEMPTS:
                    self._stop_culprit(indexer, items)
                    return None
            else:
                self._settle(outcome.finished, outcome.again, outcome.bulk, outcome.back)
                if outcome.again or outcome.bulk or outcome.back:
                    for stream, mark in marks.items():
                        self.mark(stream, mark)  # it was not written: it waits for what is held up
                return connection
            if self._stopping:
                return connection  # the batch is not acknowledged and comes again after the next start
            time.sleep(pause)
            pause = min(pause * 2, _RETRY_MOST_S)

    def _stop_culprit(self, indexer: Indexer, items: list[Item]) -> None:
        """Processes product by product; whose batch fails again is suspended, and stops only itself."""
        for product in {item.product.product_id: item.product for item in items}.values():
            own = [item for item in items if item.product.product_id == product.product_id]
            try:
                with self._connect() as connection:
                    outcome = indexer.process(connection, own)
            except (psycopg.OperationalError, ConnectionFailed):
                # The database went away meanwhile: nobody's fault. Its rows come again, with a new count.
                self._settle((), own, ())
            except Exception as error:  # see _process
                if self._suspend(product, _reason(error)):
                    self._settle(own, (), ())
            else:
                self._settle(outcome.finished, outcome.again, outcome.bulk)

    def _others_wait(self, items: Sequence[Item]) -> bool:
        with self._changed:
            return waiting.others_wait(self._live, items)

    def _settle(
        self, finished: Iterable[Item], again: Iterable[Item], bulk: Iterable[Item], back: Sequence[Item] = ()
    ) -> None:
        numbers: list[int] = []
        with self._changed:
            for item in finished:
                self._held.discard(id(item))
                numbers += item.numbers
            for item in again:
                pause = min(_RETRY_FIRST_S * 2**item.attempts, _RETRY_MOST_S)
                self._held.add(id(item))
                self._later.append((time.monotonic() + pause, item))
            for item in bulk:
                self._held.add(id(item))
                self._supersede(self._bulk, item)
                # Before the backfill: the watermark waits for it.
                key = (item.product.product_id, item.key)
                self._bulk = {key: self._bulk.pop(key), **self._bulk}
            if back and not self._stopping:
                self._live = waiting.put_back(self._live, back)
            self._changed.notify_all()
        self._acknowledgements.finish(numbers)

    def _watermarks(self, marks: dict[Stream, Mark]) -> list[dict[str, Any]]:
        # In one order for all workers, so that none waits for another in a circle.
        return [
            {
                "lane": self.model,
                "source": stream.source,
                "partition": stream.partition,
                "lsn": lsn_text(mark.lsn),
                "as_of": mark.as_of,
            }
            for stream, mark in sorted(marks.items(), key=lambda entry: entry[0])
        ]


def _reason(error: Exception) -> str:
    """What went wrong, without the values that Postgres or Python may quote."""
    if isinstance(error, psycopg.Error):
        primary = (error.diag.message_primary or "").split(":")[0]
        return f"{type(error).__name__}: {primary}"
    return f"unexpected {type(error).__name__}; see the log"


def _closed(connection: Connection | None) -> Connection | None:
    """Closes the connection; the next attempt opens another."""
    if connection is not None:
        connection.close()
    return connection
