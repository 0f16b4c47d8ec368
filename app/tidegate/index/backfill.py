"""The backfills of one source that comes through Kafka, as the worker sees to them that keeps the house of all."""

import json
import logging
from collections.abc import Mapping
from dataclasses import dataclass
from typing import Any

import psycopg

from tidegate.capture.stream import HOME
from tidegate.database import Connection
from tidegate.index.lane_queue import BULK_HIGH, BULK_LOW
from tidegate.sql import queries

log = logging.getLogger(__name__)


@dataclass
class Backfills:
    """Asks for them, holds them back while workers are behind, and knows when they are written."""

    source: str
    _paused: bool = False

    def ask(self, connection: Connection, there: Connection) -> list[tuple[str, str]]:
        """Asks for those that products wait for; returns their tables (schema, table).

        The signal first: if this worker ends in between, the table is read twice, not never.

        Args:
            there: the source; the index itself, where that is the source.
        """
        static = queries("stream")
        parameters = {"source": self.source}
        rows = connection.execute(static["backfills_wanted"], parameters).fetchall()
        if not rows or connection.execute(static["streaming"], parameters).fetchone() != (True,):
            return []
        wanted = {product_id: (schema, table) for product_id, schema, table in rows}
        # What an earlier backfill left to be waited for says nothing of this one. Before the signal: a small
        # table is read to its end before the next statement here.
        connection.execute(static["scans_forget"], {"product_ids": list(wanted)})
        if self.source != HOME:
            # Whatever is read from now on comes behind this, to workers that have heard of the contract.
            there.execute(queries("remote")["announce"])
        names = [f"{schema}.{table}" for schema, table in dict.fromkeys(wanted.values())]
        signal(there, "execute-snapshot", {"type": "incremental", "data-collections": names})
        connection.execute(static["backfills_begun"], {"product_ids": list(wanted)})
        log.info("backfill asked for", extra={"source": self.source, "tables": names})
        return list(wanted.values())

    def regulate(self, connection: Connection, there: Connection) -> None:
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
        signal(there, kind, {"type": "incremental"})
        self._paused = not self._paused

    def finished(self, connection: Connection) -> list[int]:
        """Products whose backfill has been read and is written, whatever partitions and workers it came by."""
        rows = connection.execute(queries("stream")["scans_finished"], {"source": self.source}).fetchall()
        return [row[0] for row in rows]


def signal(connection: psycopg.Connection[Any], kind: str, data: Mapping[str, Any]) -> None:
    """A signal to Debezium, on the source that it reads."""
    connection.execute(queries("worker")["backfill_signal"], {"type": kind, "data": json.dumps(data)})
