"""The workers that share the streams of an index: what each says of itself, and what one of them does for all."""

import json
import logging
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass, field
from datetime import datetime
from typing import Any

import psycopg

from tidegate.capture.partitioning import marks
from tidegate.capture.position import Lsn, lsn_text
from tidegate.capture.source import Source
from tidegate.capture.stream import HOME, Stream
from tidegate.database import Connection, connect
from tidegate.index.lane import BULK_HIGH, BULK_LOW
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
    _paused: bool = False

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

    def keep(self, connection: Connection) -> tuple[list[int], list[tuple[str, str]]]:
        """What the leader does for all: asks for backfills, holds them back while workers are behind.

        Returns:
            The products whose backfill has been read and is written, whatever partitions and workers it came by;
            and the tables (schema, table) that are about to be read.
        """
        asked = self._ask_for_backfills(connection)
        self._regulate_backfill(connection)
        return [row[0] for row in connection.execute(queries("stream")["scans_finished"]).fetchall()], asked

    def scanned(self, connection: Connection, source: str, product_id: int) -> None:
        """Notes that Debezium has read a table to its end.

        Every row that it read is in the stream before what is committed from now on; so the backfill is written
        when every partition is finished up to here.
        """
        with self.on_source(connection, source) as there:
            row = there.execute("SELECT pg_current_wal_insert_lsn()::text").fetchone()
        assert row is not None
        connection.execute(queries("stream")["scan_add"], {"product_id": product_id, "lsn": row[0]})

    def settled(self, connection: Connection, product_id: int) -> None:
        """The product's backfill is done, and said to be."""
        connection.execute(queries("stream")["scans_forget"], {"product_ids": [product_id]})

    def leave(self, connection: Connection) -> None:
        """This worker ends."""
        connection.execute(queries("stream")["worker_gone"], {"worker": self.worker})

    def on_source(self, connection: Connection, source: str) -> "_Borrowed":
        """A connection to the source: `connection` itself, where that is the index's own database."""
        return _Borrowed(connection, None if source == HOME else self.sources[source].dsn)

    def _set_streams(self, connection: Connection, counts: Mapping[str, int]) -> None:
        for name, partitions in counts.items():
            if self._known.get(name) != partitions:
                set_stream(connection, name, "kafka", partitions, marks(self.sources[name].prefix, partitions).prefixes)
                with self.on_source(connection, name) as there:
                    set_heartbeats(there, self.sources[name].prefix, partitions)
                self._known[name] = partitions
                log.info("partitions", extra={"source": name, "partitions": partitions})

    def _ask_for_backfills(self, connection: Connection) -> list[tuple[str, str]]:
        """The signal first: if this worker ends in between, the table is read twice, not never."""
        static = queries("stream")
        streaming = {row[0] for row in connection.execute(static["streaming"]).fetchall()}
        wanted: dict[str, dict[int, str]] = {}
        asked = []
        for product_id, source, schema, table in connection.execute(static["backfills_wanted"]).fetchall():
            if source in streaming and source in self.sources:
                wanted.setdefault(source, {})[product_id] = f"{schema}.{table}"
                asked.append((schema, table))
        for source, tables in wanted.items():
            # What an earlier backfill left to be waited for says nothing of this one. Before the signal: a small
            # table is read to its end before the next statement here.
            connection.execute(static["scans_forget"], {"product_ids": list(tables)})
            with self.on_source(connection, source) as there:
                signal(there, "execute-snapshot", {"type": "incremental", "data-collections": list(tables.values())})
            connection.execute(static["backfills_begun"], {"product_ids": list(tables)})
            log.info("backfill asked for", extra={"source": source, "tables": list(tables.values())})
        return asked

    def _regulate_backfill(self, connection: Connection) -> None:
        """Pauses Debezium's reading of tables while many rows wait: live changes come by the same partitions."""
        row = connection.execute(queries("stream")["bulk_waiting"]).fetchone()
        assert row is not None
        waiting, workers = row
        if not self._paused and waiting > BULK_HIGH * workers:
            kind = "pause-snapshot"
        elif self._paused and waiting < BULK_LOW * workers:
            kind = "resume-snapshot"
        else:
            return
        for source in self._known:
            with self.on_source(connection, source) as there:
                signal(there, kind, {"type": "incremental"})
        self._paused = not self._paused


class _Borrowed:
    """A context with a connection: a given one, or one that is made for it and closed."""

    def __init__(self, given: Connection, dsn: str | None):
        self._given, self._dsn = given, dsn
        self._own: Connection | None = None

    def __enter__(self) -> Connection:
        if self._dsn is None:
            return self._given
        self._own = connect(self._dsn, application="tidegate worker")
        return self._own

    def __exit__(self, *_: object) -> None:
        if self._own is not None:
            self._own.close()


def set_stream(connection: Connection, source: str, transport: str, partitions: int, prefixes: Sequence[str]) -> None:
    """From now on the changes of the source come this way. Watermarks of partitions that are no more go."""
    static = queries("stream")
    parameters = {"source": source, "transport": transport, "partitions": partitions, "prefixes": list(prefixes)}
    with connection.transaction():
        connection.execute(static["stream_set"], parameters)
        connection.execute(static["watermarks_forget"], parameters)
        connection.execute(static["partitions_forget"], parameters)


def set_heartbeats(connection: Connection, prefix: str, partitions: int) -> None:
    """The rows of the source's heartbeat table that reach each partition."""
    static = queries("stream")
    found = marks(prefix, partitions)
    parameters = {"ids": [*found.heartbeats, *found.catalog_beats]}
    with connection.transaction():
        connection.execute(static["heartbeats_forget"], parameters)
        connection.execute(static["heartbeats_add"], parameters)


def signal(connection: psycopg.Connection[Any], kind: str, data: Mapping[str, Any]) -> None:
    """A signal to Debezium, on the source that it reads."""
    connection.execute(queries("worker")["backfill_signal"], {"type": kind, "data": json.dumps(data)})
