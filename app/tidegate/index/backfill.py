"""The backfills of one source that comes through Kafka, as the worker sees to them that keeps the house of all."""

import json
import logging
import uuid
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from typing import Any

import psycopg

from tidegate.capture.backfill_id import backfill_id
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

        The signal first: if this worker ends in between, the table is read twice, not never. Before it the products
        are told its number, so that the end of an earlier backfill is not taken for that of this one.

        Args:
            there: the source; the index itself, where that is the source.
        """
        static = queries("stream")
        parameters = {"source": self.source}
        rows = connection.execute(static["backfills_wanted"], parameters).fetchall()
        if not rows or connection.execute(static["streaming"], parameters).fetchone() != (True,):
            return []
        number = _next(connection)
        asked = {"product_ids": [row[0] for row in rows], "applied": [row[1] for row in rows], "backfill": number}
        tables = list(dict.fromkeys((schema, table) for _, _, schema, table in rows))
        connection.execute(static["backfills_numbered"], asked)
        if self.source != HOME:
            # Whatever is read from now on comes behind this, to workers that have heard of the contract.
            there.execute(queries("remote")["announce"])
        _signal_backfill(there, tables, number)
        connection.execute(static["backfills_begun"], asked)
        return tables

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

    def finished(self, connection: Connection) -> list[tuple[int, int]]:
        """Products whose backfill has been read and is written, whatever partitions and workers it came by; with its
        number."""
        return connection.execute(queries("stream")["scans_finished"], {"source": self.source}).fetchall()


def ask_here(connection: Connection, rows: Sequence[tuple[int, str, str]]) -> list[tuple[str, str]]:
    """Asks for those of these products (id, schema, table), where the index itself is the source; returns the tables.

    Signal and number go together: a product that waits for a number that nobody was asked for waits for ever.
    """
    tables = list(dict.fromkeys((schema, table) for _, schema, table in rows))
    number = _next(connection)
    with connection.transaction():
        asked = {"product_ids": [row[0] for row in rows], "backfill": number}
        connection.execute(queries("worker")["backfills_asked"], asked)
        _signal_backfill(connection, tables, number)
    return tables


def _next(connection: Connection) -> int:
    """A number for the next backfill. The later is the greater."""
    row = connection.execute(queries("worker")["backfill_number"]).fetchone()
    assert row is not None
    return int(row[0])


def _signal_backfill(connection: psycopg.Connection[Any], tables: Sequence[tuple[str, str]], number: int) -> None:
    names = [f"{schema}.{table}" for schema, table in tables]
    signal(connection, "execute-snapshot", {"type": "incremental", "data-collections": names}, backfill_id(number))
    log.info("backfill asked for", extra={"tables": names, "backfill": number})


def signal(
    connection: psycopg.Connection[Any], kind: str, data: Mapping[str, Any], signal_id: str | None = None
) -> None:
    """A signal to Debezium, on the source that it reads."""
    parameters = {"id": signal_id or str(uuid.uuid4()), "type": kind, "data": json.dumps(data)}
    connection.execute(queries("worker")["backfill_signal"], parameters)
