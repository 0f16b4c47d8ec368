"""What the worker that keeps the house of all does for a source on another server."""

import logging
import threading
from collections.abc import Callable, Sequence
from dataclasses import dataclass
from datetime import timedelta
from typing import Protocol

import psycopg

from tidegate.capture.source import Source
from tidegate.database import Connection
from tidegate.errors import TidegateError
from tidegate.index.backfill import Backfills
from tidegate.index.fleet import Fleet, set_heartbeats
from tidegate.index.source_reader import AWAY_S, opened
from tidegate.sql import queries

log = logging.getLogger(__name__)

_TURN_S = 1.0
_AWAY_S = 5.0
_FORGET_EVERY = 600


class House(Protocol):
    """What a keeper tells the worker."""

    def asked(self, connection: Connection, tables: Sequence[tuple[str, str]]) -> None:
        """These tables are about to be read."""

    def finished(self, connection: Connection, there: Connection, product_id: int, backfill: int) -> None:
        """The backfill of this number of a product is written; `there` is its source."""

    def copy(self, home: Connection, source: Source) -> None:
        """Sees to second indexes that are filled from the first."""

    def check(self, home: Connection, there: Connection, source: Source) -> None:
        """Sees whether the source still is what its products need."""


@dataclass
class SourceKeeper:
    """A thread a source, with connections of its own: a server that is away or slow holds up nothing else.

    What keeps it from its work stands in tidegate.stream, for `status`.

    Args:
        home: opens a connection to the index, as the worker.
    """

    source: Source
    fleet: Fleet
    house: House
    home: Callable[[], Connection]
    stopping: threading.Event

    def __post_init__(self) -> None:
        self._backfills = Backfills(self.source.name)
        self._beats_in = 0
        self._turns = 0
        self._thread = threading.Thread(target=self._keep, name=f"source:{self.source.name}", daemon=True)

    def start(self) -> None:
        self._thread.start()

    def join(self, timeout: float) -> None:
        self._thread.join(timeout)

    def _keep(self) -> None:
        while not self.stopping.wait(_TURN_S):
            try:
                with self.home() as home:
                    self._keep_from(home)
            except (psycopg.Error, TidegateError) as error:
                log.warning("index away, its sources wait", extra={"reason": str(error)})
                self.stopping.wait(_AWAY_S)

    def _keep_from(self, home: Connection) -> None:
        """Until the index is away, which is raised; a source that is away is said to be, and tried again."""
        while not self.stopping.is_set():
            try:
                with opened(self.source.dsn) as there:
                    while not self.stopping.is_set():
                        if self.fleet.leads:
                            self._turn(home, there)
                            if self._say(home, None):
                                self._retry(home)
                        self.stopping.wait(_TURN_S)
            except (psycopg.Error, TidegateError) as error:
                home.execute("SELECT")  # raises where it is the index that is away
                reason = str(error).strip() or type(error).__name__
                log.warning("source waits", extra={"source": self.source.name, "reason": reason})
                if self.fleet.leads:
                    self._say(home, reason)
                self._beats_in = 0
                self.stopping.wait(_AWAY_S)

    def _turn(self, home: Connection, there: Connection) -> None:
        self.house.check(home, there, self.source)
        partitions = self.fleet.partitions.get(self.source.name, 0)
        if partitions != self._beats_in:
            set_heartbeats(there, self.source, partitions)
            self._beats_in = partitions
        self.house.copy(home, self.source)
        asked = self._backfills.ask(home, there)
        if asked:
            self.house.asked(home, asked)
        self._backfills.regulate(home, there)
        self._place_scans(home, there)
        for product_id, backfill in self._backfills.finished(home):
            self.house.finished(home, there, product_id, backfill)
        if self._turns % _FORGET_EVERY == 0:
            there.execute(queries("worker")["signals_forget"])
        self._turns += 1

    def _place_scans(self, home: Connection, there: Connection) -> None:
        static = queries("remote")
        for (product_id,) in home.execute(static["scans_unplaced"], {"source": self.source.name}).fetchall():
            row = there.execute(static["here"]).fetchone()
            assert row is not None
            home.execute(static["scan_place"], {"product_id": product_id, "lsn": row[0]})

    def _say(self, home: Connection, trouble: str | None) -> bool:
        """Whether it is another trouble, or none, than was said before."""
        parameters = {"source": self.source.name, "trouble": trouble}
        return home.execute(queries("remote")["trouble"], parameters).rowcount > 0

    def _retry(self, home: Connection) -> None:
        parameters = {"source": self.source.name, "soon": timedelta(seconds=AWAY_S)}
        home.execute(queries("remote")["retry_source"], parameters)
