"""A lane: everything of one embedding model, so that a model that is slow or away holds up only its own.

Two loops work on it, each on its own connection: live changes, and behind them what comes in bulk (backfilled
rows, very long documents). They may write the same row in either order; the ledger lets the newer one stand.
"""

import logging
import threading
from collections.abc import Callable
from typing import Any

import psycopg

from tidegate.capture.acknowledgement import Finishes
from tidegate.capture.position import lsn_text
from tidegate.capture.stream import Stream
from tidegate.database import Connection, ConnectionFailed
from tidegate.errors import TidegateError
from tidegate.index import pause
from tidegate.index.indexer import Indexer, Outcome
from tidegate.index.item import Item
from tidegate.index.lane_queue import LaneQueue, Mark, Scanned
from tidegate.index.product import Product

log = logging.getLogger(__name__)

_WRITE_ATTEMPTS = 5


class Lane:
    """The queue of one model and the two loops that empty it.

    `queue` is what it is filled through.

    Args:
        connect: opens a connection as the worker; raises TidegateError while the database is away.
        suspend: told of a product that cannot be written at all; says whether it noted that.
        scanned: told when a product's backfill is in the index, and of its number.
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
        scanned: Callable[[Product, int], None],
    ):
        self.model = model
        self._connect = connect
        self._acknowledgements = acknowledgements
        self._suspend, self._scanned = suspend, scanned
        self.queue = LaneQueue()
        self._threads = [
            threading.Thread(target=self._work, args=(name, take, indexer), name=f"{name}:{model}", daemon=True)
            for name, take, indexer in (("live", self.queue.take_live, live), ("bulk", self.queue.take_bulk, bulk))
        ]

    def start(self) -> None:
        for thread in self._threads:
            thread.start()

    def stop(self) -> None:
        """Ends both loops after what they hold; what waits comes again after the next start."""
        self.queue.stop()
        for thread in self._threads:
            thread.join()

    def _work(self, name: str, take: Callable[[], tuple[list[Item], Any]], indexer: Indexer) -> None:
        connection: Connection | None = None
        while True:
            items, behind = take()
            if isinstance(behind, Scanned):
                self._end_backfill(behind)
            elif items or behind:
                connection = self._process(name, connection, indexer, items, behind or {})
            elif self.queue.stopping:
                break
            self.queue.rest(name)
        if connection is not None:
            connection.close()
        indexer.close()

    def _end_backfill(self, scanned: Scanned) -> None:
        """Tells that a backfill is in the index; while the database is away it waits, else nobody ever would. What
        the database refuses again and again suspends the product: others wait behind it."""
        pauses, failures = pause.pauses(), 0
        while self.queue.waits_again(scanned.product) and not self.queue.stops_within(pause.FIRST_S):
            pass
        if self.queue.stopping:
            return  # rows may be missing; it comes again behind them
        while True:
            try:
                self._scanned(scanned.product, scanned.backfill)
            except (psycopg.Error, TidegateError) as error:
                log.warning("end of backfill waits", extra={"reason": str(error), "retry_s": pauses.seconds})
                failures += isinstance(error, psycopg.Error) and not isinstance(error, psycopg.OperationalError)
                if failures >= _WRITE_ATTEMPTS and self._suspend(scanned.product, _reason(error)):
                    self._acknowledgements.finish(scanned.numbers)
                    return
            else:
                self._acknowledgements.finish(scanned.numbers)
                return
            if self.queue.stops_within(pauses.next()):
                return

    def _process(
        self, name: str, connection: Connection | None, indexer: Indexer, items: list[Item], marks: dict[Stream, Mark]
    ) -> Connection | None:
        """Processes a batch until it is done: an absent database is waited for, a product in the way suspended."""
        pauses, failures = pause.pauses(), 0
        while True:
            try:
                if connection is None or connection.closed:
                    connection = self._connect()
                outcome = indexer.process(
                    connection, items, self._watermarks(marks), lambda: self.queue.others_wait(items)
                )
            except (psycopg.OperationalError, TidegateError) as error:
                log.warning(
                    "database away, the batch waits",
                    extra={
                        "lane": self.model,
                        "loop": name,
                        "rows": len(items),
                        "reason": str(error),
                        "retry_s": pauses.seconds,
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
                self._settle(outcome)
                if outcome.again or outcome.bulk or outcome.back:
                    for stream, mark in marks.items():
                        self.queue.mark(stream, mark)  # it was not written: it waits for what is held up
                return connection
            if self.queue.stops_within(pauses.next()):
                return connection  # the batch is not acknowledged and comes again after the next start

    def _stop_culprit(self, indexer: Indexer, items: list[Item]) -> None:
        """Processes product by product; whose batch fails again is suspended, and stops only itself."""
        for product in {item.product.product_id: item.product for item in items}.values():
            own = [item for item in items if item.product.product_id == product.product_id]
            try:
                with self._connect() as connection:
                    outcome = indexer.process(connection, own)
            except (psycopg.OperationalError, ConnectionFailed):
                # The database went away meanwhile: nobody's fault. Its rows come again, with a new count.
                self._settle(Outcome([], own, []))
            except Exception as error:  # see _process
                if self._suspend(product, _reason(error)):
                    self._settle(Outcome(own, [], []))
            else:
                self._settle(outcome)

    def _settle(self, outcome: Outcome) -> None:
        numbers = self.queue.settle(outcome.finished, outcome.again, outcome.bulk, outcome.back)
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
