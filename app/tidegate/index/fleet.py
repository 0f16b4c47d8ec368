"""The workers that share the streams of an index: what each says of itself, and what one of them does for all."""

import logging
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass, field
from datetime import datetime

from tidegate.capture.partitioning import marks
from tidegate.capture.position import Lsn, lsn_text
from tidegate.capture.source import Source
from tidegate.capture.stream import HOME, Stream
from tidegate.database import Connection
from tidegate.index.backfill import Backfills
from tidegate.sql import queries

log = logging.getLogger(__name__)


@dataclass(frozen=True, slots=True)
class PartitionReport:
    """How far a partition is. Offsets are Kafka's; None: not known yet."""

    stream: Stream
    committed: int | None
    end: int | None
    finished: Lsn | None


@dataclass(frozen=True, slots=True)
class WorkerReport:
    """How a worker is.

    Attributes:
        partitions: those that it has.
        counts: how many partitions each source has in all.
        trouble: what keeps it from working, and since when.
    """

    partitions: Sequence[PartitionReport]
    counts: Mapping[str, int]
    trouble: str | None = None
    trouble_since: datetime | None = None


@dataclass
class Fleet:
    """One worker's view of the fleet.

    Args:
        worker: its name, unique.
        sources: all source databases by name.
        report_of: how this worker is.
    """

    worker: str
    sources: Mapping[str, Source]
    report_of: Callable[[], WorkerReport]
    _leads_on: Connection | None = None
    _known: dict[str, int] = field(default_factory=dict)
    _backfills: Backfills = field(default_factory=lambda: Backfills(HOME))

    def report(self, connection: Connection, bulk_waiting: int) -> bool:
        """Writes down how this worker is. Returns whether it keeps the house of all."""
        static = queries("stream")
        said = self.report_of()
        connection.execute(
            static["worker_seen"],
            {
                "worker": self.worker,
                "bulk_waiting": bulk_waiting,
                "trouble": said.trouble,
                "trouble_since": said.trouble_since,
            },
        )
        if said.partitions:
            connection.execute(
                static["partitions_seen"],
                {
                    "worker": self.worker,
                    "sources": [part.stream.source for part in said.partitions],
                    "partitions": [part.stream.partition for part in said.partitions],
                    "committed": [part.committed for part in said.partitions],
                    "ends": [part.end for part in said.partitions],
                    "finished": [None if p.finished is None else lsn_text(p.finished) for p in said.partitions],
                },
            )
        if self._leads_on is not connection:
            row = connection.execute(static["lead"]).fetchone()
            if row != (True,):
                return False
            self._leads_on = connection
            connection.execute(static["workers_forget"])
            self._known.clear()
            log.info("keeps the house of all workers", extra={"worker": self.worker})
        self._set_streams(connection, said.counts)
        return True

    def keep(self, connection: Connection) -> tuple[list[tuple[int, int]], list[tuple[str, str]]]:
        """What the leader does for the index's own database; source_keeper.py has what it does for others.

        Returns:
            The products whose backfill has been read and is written, with its number; and the tables (schema, table)
            that are about to be read.
        """
        asked = self._backfills.ask(connection, connection)
        self._backfills.regulate(connection, connection)
        return self._backfills.finished(connection), asked

    def scanned(self, connection: Connection, source: str, product_id: int, backfill: int) -> None:
        """Notes that Debezium has read a table to its end, in the backfill of this number.

        Every row that it read is in the stream before what is committed from now on; so the backfill is written
        when every partition is finished up to here. Another server is asked where that is by who keeps its house.
        """
        place: str | None = None
        if source == HOME:
            row = connection.execute(queries("remote")["here"]).fetchone()
            assert row is not None
            place = row[0]
        parameters = {"product_id": product_id, "backfill": backfill, "lsn": place}
        connection.execute(queries("stream")["scan_add"], parameters)

    def settled(self, connection: Connection, product_id: int, backfill: int) -> None:
        """The product's backfill is done, and said to be."""
        connection.execute(queries("stream")["scan_forget"], {"product_id": product_id, "backfill": backfill})

    def leave(self, connection: Connection) -> None:
        """This worker ends."""
        connection.execute(queries("stream")["worker_gone"], {"worker": self.worker})

    @property
    def leads(self) -> bool:
        """Whether it keeps the house of all."""
        return self._leads_on is not None and not self._leads_on.closed

    @property
    def partitions(self) -> Mapping[str, int]:
        """How many partitions each source has, as far as the leader knows."""
        return self._known

    def _set_streams(self, connection: Connection, counts: Mapping[str, int]) -> None:
        for name, partitions in counts.items():
            if self._known.get(name) != partitions:
                source = self.sources[name]
                set_stream(connection, name, "kafka", partitions, marks(source.prefix, partitions).prefixes)
                if name == HOME:
                    set_heartbeats(connection, source, partitions)
                self._known[name] = partitions
                log.info("partitions", extra={"source": name, "partitions": partitions})


def set_stream(connection: Connection, source: str, transport: str, partitions: int, prefixes: Sequence[str]) -> None:
    """From now on the changes of the source come this way. Watermarks of partitions that are no more go."""
    static = queries("stream")
    parameters = {"source": source, "transport": transport, "partitions": partitions, "prefixes": list(prefixes)}
    with connection.transaction():
        connection.execute(static["stream_set"], parameters)
        connection.execute(static["watermarks_forget"], parameters)
        connection.execute(static["partitions_forget"], parameters)


def set_heartbeats(connection: Connection, source: Source, partitions: int) -> None:
    """The rows of the source's heartbeat table that reach each partition."""
    static = queries("stream")
    found = marks(source.prefix, partitions, escape=source.escaped)
    parameters = {"ids": [*found.heartbeats, *found.catalog_beats]}
    with connection.transaction():
        connection.execute(static["heartbeats_forget"], parameters)
        connection.execute(static["heartbeats_add"], parameters)
