"""What waits in a lane: live changes, what comes in bulk, what is tried again later, and how far the streams are."""

import itertools
import threading
import time
from collections.abc import Callable, Iterable, Sequence
from dataclasses import dataclass
from datetime import datetime
from typing import Any

from tidegate.capture.change_event import Operation
from tidegate.capture.position import Lsn
from tidegate.capture.stream import Stream
from tidegate.index import pause, waiting
from tidegate.index.item import Item
from tidegate.index.product import Product
from tidegate.index.waiting import Key

LIVE_BATCH = 512
BULK_BATCH = 128
LIVE_LIMIT = 20_000
BULK_HIGH = 4_000
BULK_LOW = 1_000


@dataclass(slots=True)
class Mark:
    """A place in a stream: everything of it that was committed before has been put."""

    lsn: Lsn
    as_of: datetime | None


@dataclass(frozen=True, slots=True)
class Scanned:
    """All rows of the product's backfill of this number have been put."""

    product: Product
    numbers: list[int]
    backfill: int = 0


class LaneQueue:
    """Filled by the stream, emptied by the two loops. Thread-safe.

    Of a row the newest event stands for the older ones. A mark is given out when all that was put before is settled.
    """

    def __init__(self) -> None:
        self._changed = threading.Condition()
        self._live: dict[Key, Item] = {}
        self._bulk: dict[Key, Item | Scanned] = {}
        self._later: list[tuple[float, Item]] = []
        self._held: set[int] = set()
        self._marks: dict[Stream, Mark] = {}
        self._working: dict[str, list[Item]] = {}
        self._given_up: list[Item | Scanned] = []
        self._stopping = False

    @property
    def stopping(self) -> bool:
        """Whether nothing more is to be begun."""
        return self._stopping

    def stops_within(self, seconds: float) -> bool:
        """Waits so long; returns at once, and True, when nothing more is to be begun."""
        with self._changed:
            return self._changed.wait_for(lambda: self._stopping, seconds)

    def drain(self, timeout: float) -> bool:
        """Waits until every live change is written; False when `timeout` seconds are up before."""
        with self._changed:
            # A mark that waits for rows which were held up in bulk is not written: they come again. They are kept,
            # since another row could have the identity of one that is no more.
            self._given_up += self._bulk.values()
            self._bulk.clear()
            return self._changed.wait_for(
                lambda: not (self._live or self._later or self._working or (self._marks and not self._held)),
                timeout,
            )

    def stop(self) -> None:
        """Empties it: what waits comes again after the next start. Marks, too: what they promise is not written."""
        with self._changed:
            self._stopping = True
            self._marks.clear()
            self._live.clear()
            self._bulk.clear()
            self._later.clear()
            self._changed.notify_all()

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
            if self._stopping:
                return
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

    def put_scanned(self, number: int, product: Product, backfill: int) -> None:
        """The product's backfill of this number has been read; `number` is the event's that says so."""
        with self._changed:
            self._bulk[(product.product_id, f"\x00scanned {number}")] = Scanned(product, [number], backfill)
            self._changed.notify_all()

    def put_copied(self, product: Product) -> None:
        """The product's rows were put, as far as the first index has them."""
        with self._changed:
            self._bulk[(product.product_id, "\x00copied")] = Scanned(product, [])
            self._changed.notify_all()

    def waiting_of(self, product: Product) -> int:
        """Rows of the product that wait in bulk, or for a model that did not answer."""
        with self._changed:
            later = sum(item.product.product_id == product.product_id for _, item in self._later)
            return later + sum(product_id == product.product_id for product_id, _ in self._bulk)

    def rest(self, name: str) -> None:
        """The loop of this name has done what it took."""
        with self._changed:
            self._working.pop(name, None)
            self._changed.notify_all()

    def waits_again(self, product: Product) -> bool:
        """Whether rows of the product wait for a model that did not answer, or are tried again just now."""
        with self._changed:
            waiting_rows = [item for _, item in self._later]
            tried = [*self._live.values(), *self._working.get("live", ())]
            return any(item.attempts and item.product.product_id == product.product_id for item in waiting_rows + tried)

    def trouble_of(self, product: Product) -> str | None:
        """Why rows of the product are tried again later; None: none is."""
        with self._changed:
            return next((i.trouble for _, i in self._later if i.product.product_id == product.product_id), None)

    def others_wait(self, items: Sequence[Item]) -> bool:
        """See waiting.others_wait."""
        with self._changed:
            return waiting.others_wait(self._live, items)

    def take_live(self) -> tuple[list[Item], dict[Stream, Mark]]:
        """The next live batch, and the marks that may be written with it; waits for them. Nothing: it was stopped, or
        a mark waits."""
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
                self._working["live"] = items
            self._changed.notify_all()
            return items, marks

    def take_bulk(self) -> tuple[list[Item], Scanned | None]:
        """The next bulk batch, or the end of a backfill; waits for them. Nothing: it was stopped."""
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
                self._working["bulk"] = items
            self._changed.notify_all()
            return items, scanned

    def settle(
        self, finished: Iterable[Item], again: Iterable[Item], bulk: Iterable[Item], back: Sequence[Item] = ()
    ) -> list[int]:
        """Takes back what is not finished; returns the numbers of the events that are."""
        numbers: list[int] = []
        with self._changed:
            for item in finished:
                self._held.discard(id(item))
                numbers += item.numbers
            for item in again:
                self._held.add(id(item))
                self._later.append((time.monotonic() + pause.after(item.attempts), item))
            for item in bulk:
                self._held.add(id(item))
                self._supersede(self._bulk, item)
                # Before the backfill: the watermark waits for it.
                key = (item.product.product_id, item.key)
                self._bulk = {key: self._bulk.pop(key), **self._bulk}
            if back and not self._stopping:
                self._live = waiting.put_back(self._live, back)
            self._changed.notify_all()
        return numbers

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
