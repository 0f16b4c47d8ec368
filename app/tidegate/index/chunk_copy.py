"""A second index filled from the chunks of the first: only embedding is paid, and the source is not read.

Both indexes take every change that was committed after the contract. Of what was committed before, the second takes
what the first has, by these steps:

1. A place in the source's WAL is noted, after the contract, and waited for until the first index has everything that
   was committed before it. From then on what the first lacks of the past is on its way to both.
2. Rows that changed up to that place are read from the first, by key, and written into the second at the position that
   they have in the first. The second's own ledger fences them: a later change of the row, its delete or a truncate that
   came meanwhile stands.
3. Passes end when one finds nothing more. What the second has already is in its ledger, so a copy that was cut short
   (kill -9, a budget that is spent) goes on where it was.

A row whose chunks the first does not have (it is parked, or waits for a budget) is parked here, too, and read by its
key from the source.
"""

import logging
import threading
import time
from collections.abc import Callable
from dataclasses import dataclass, field, replace
from datetime import datetime

import psycopg

from tidegate.database import Connection
from tidegate.errors import TidegateError
from tidegate.index import pause
from tidegate.index.budget import Budgets
from tidegate.index.item import copied_item
from tidegate.index.lane_queue import LaneQueue
from tidegate.index.product import Product
from tidegate.index.stored_rows import StoredRows
from tidegate.sql import queries

log = logging.getLogger(__name__)

PAGE = 128
_LOOK_S = 0.02
_TURN_S = 0.5


class CopyEnded(Exception):
    """There is nothing to be copied any more: the worker stops, or the index is another's concern now."""


@dataclass
class ChunkCopy:
    """The copy of one product, in a thread of its own.

    Args:
        applied_at: when the contract was applied that the first index has here, or one before.
        queue: of the second index's lane; its rows take turns with other bulk work there.
        place: where the source's WAL is.
        leads: whether this worker still keeps the house of all.
        done: told when the index is live.
    """

    first: Product
    second: Product
    applied_at: datetime
    queue: LaneQueue
    budgets: Budgets
    connect: Callable[[], Connection]
    place: Callable[[], str]
    leads: Callable[[], bool]
    done: Callable[[Product], None]
    stopping: threading.Event
    passed: threading.Event = field(default_factory=threading.Event)
    """Set when everything that was put is written, or given back."""

    def __post_init__(self) -> None:
        self._static = queries("beside")
        self._said: str | None = None
        self._thread = threading.Thread(target=self._run, name=f"copy:{self.second.name}", daemon=True)

    def start(self) -> None:
        self._thread.start()

    def join(self) -> None:
        self._thread.join()

    @property
    def running(self) -> bool:
        return self._thread.is_alive()

    def _run(self) -> None:
        """Until it is done; an absent database is waited for."""
        pauses = pause.pauses()
        while True:
            try:
                with self.connect() as connection:
                    self._copy(connection)
                return
            except CopyEnded:
                return
            except (psycopg.Error, TidegateError) as error:
                log.warning(
                    "copy waits",
                    extra={"product": self.second.name, "reason": str(error), "retry_s": pauses.seconds},
                )
                if pauses.wait(self.stopping):
                    return

    def _copy(self, connection: Connection) -> None:
        through = self._begin(connection)
        if not same_chunks(self.first, self.second):
            connection.execute(self._static["copy_given_up"], {"second": self.second.product_id})
            log.info("copy given up, the first index is cut otherwise", extra={"product": self.second.name})
            return
        rows = StoredRows(self.first, self.second)
        passes = 0
        while self._pass(connection, rows, through):
            passes += 1
        if connection.execute(self._static["copy_done"], {"second": self.second.product_id}).rowcount:
            log.info("copied", extra={"product": self.second.name, "passes": passes})
            self.done(self.second)

    def _begin(self, connection: Connection) -> str:
        """Waits until the first index is whole, and has what was committed before a place, which is returned."""
        through: str | None = None
        while True:
            if not self._goes_on(connection):
                through = None
            else:
                through = through or self.place()
                asked = {"lane": self.first.model, "source": self.first.source, "through": through}
                if connection.execute(self._static["copy_reaches"], asked).fetchone() == (True,):
                    return through
            self.stopping.wait(_TURN_S)

    def _pass(self, connection: Connection, rows: StoredRows, through: str) -> bool:
        """Puts what is missing, and waits until it is written. Returns whether anything was."""
        after = ""
        while True:
            self._await_room(connection)
            page = rows.page(connection, after, through, PAGE)
            # Only now: what was read is of an index that is whole.
            self._require(connection)
            if not page:
                break
            self.queue.put([copied_item(self.second, row) for row in page])
            after = page[-1].key
        if not after:
            return False
        self.passed.clear()
        self.queue.put_copied(self.second)
        while not self.passed.wait(_TURN_S):
            self._require(connection)
        return True

    def _await_room(self, connection: Connection) -> None:
        """Waits while a page of rows waits in the lane, and while nothing more may be embedded today."""
        looked = time.monotonic()
        while True:
            full, room = self.queue.waiting_of(self.second) >= PAGE, self.budgets.room(self.second)
            if room and not full:
                return
            if time.monotonic() - looked > _TURN_S:
                self._require(connection, None if room else "it waits for tomorrow's budget of the product")
                looked = time.monotonic()
            self.stopping.wait(_LOOK_S)

    def _require(self, connection: Connection, why: str | None = None) -> None:
        """Says what is waited for; raises CopyEnded where the first index is no more what it was: another copy begins
        when that is whole."""
        self._say(connection, why or self.queue.trouble_of(self.second))
        if not self._goes_on(connection):
            raise CopyEnded

    def _goes_on(self, connection: Connection) -> bool:
        """Whether the first index is whole, and the one that this began with.

        Raises:
            CopyEnded: the second is not to be copied any more, or not by this worker.
        """
        if self.stopping.is_set() or not self.leads():
            raise CopyEnded
        row = connection.execute(self._static["copy_state"], {"second": self.second.product_id}).fetchone()
        if row is None or not row[0]:
            raise CopyEnded
        _, whole, applied_at = row
        if applied_at != self.applied_at:
            raise CopyEnded
        return bool(whole)

    def _say(self, connection: Connection, reason: str | None) -> None:
        if reason != self._said:
            connection.execute(self._static["copy_reason"], {"second": self.second.product_id, "reason": reason})
            self._said = reason


def same_chunks(first: Product, second: Product) -> bool:
    """Whether both indexes cut the same documents in the same way, so that only their vectors differ."""
    one, other = first.contract, second.contract
    return (
        replace(one.embedding, model=other.embedding.model, language=other.embedding.language) == other.embedding
        and one.source == other.source
        and first.embedder.ruler is not None
        and first.embedder.ruler == second.embedder.ruler
        and (first.hash_model or first.model) == second.hash_model
    )
