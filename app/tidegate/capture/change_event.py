"""What Debezium delivers, decoded: row changes and the few other things that the stream carries."""

import json
from collections.abc import Mapping
from dataclasses import dataclass, replace
from datetime import UTC, datetime, timedelta
from enum import StrEnum
from typing import Any

from tidegate.capture.backfill_id import backfill_number
from tidegate.capture.position import Lsn, Position
from tidegate.capture.stream import HOME
from tidegate.errors import TidegateError

UNAVAILABLE = "__debezium_unavailable_value"
_EPOCH = datetime(1970, 1, 1, tzinfo=UTC)

Row = Mapping[str, Any]


class UndecodableEvent(TidegateError):
    """An event of the stream is not in Debezium's format."""


class Operation(StrEnum):
    UPSERT = "upsert"
    DELETE = "delete"
    TRUNCATE = "truncate"


@dataclass(frozen=True, slots=True)
class ChangeEvent:
    """One row change, or a truncate of the table.

    Attributes:
        key: the row's key columns; None for a truncate, and for a table without a primary key.
        row: the row after the change, None for delete and truncate. A column whose value Debezium does not
            know (unchanged TOAST) is UNAVAILABLE.
        committed_at: commit time of the source transaction; for a backfilled row the time it was read.
        backfill: read by an incremental snapshot, not changed.
        source: the database that it comes from.
    """

    schema: str
    table: str
    operation: Operation
    key: Row | None
    row: Row | None
    position: Position
    committed_at: datetime
    backfill: bool = False
    source: str = HOME

    def only(self, columns: frozenset[str]) -> "ChangeEvent":
        """The event without the columns that no contract needs: they go no further than this."""
        if self.row is None:
            return self
        return replace(self, row={name: value for name, value in self.row.items() if name in columns})


@dataclass(frozen=True, slots=True)
class Message:
    """A logical decoding message with tidegate's prefix: a place in the stream, sometimes with a meaning."""

    content: str
    position: Position


@dataclass(frozen=True, slots=True)
class TableScanned:
    """Debezium has read a table to its end; the rows are all before this in the stream.

    Attributes:
        backfill: the number of the backfill that was asked for last by then, of this table or, with this one still on
            its way, of others. 0: unknown.
        failure: why it was not read to its end after all.
    """

    schema: str
    table: str
    backfill: int
    failure: str | None = None
    source: str = HOME


@dataclass(frozen=True, slots=True)
class Undecodable:
    """A record that is none of Debezium's. `place`: where it can be found; its contents are not kept."""

    place: str
    reason: str


StreamEvent = ChangeEvent | Message | TableScanned | Undecodable

_READ_TO_THE_END = {"SUCCEEDED", "EMPTY"}
"""Debezium: IncrementalSnapshotNotificationService, TableScanCompletionStatus. After all others it goes on with the
next table."""
_OPERATIONS = {
    "c": Operation.UPSERT,
    "u": Operation.UPSERT,
    "r": Operation.UPSERT,
    "d": Operation.DELETE,
    "t": Operation.TRUNCATE,
}


def decode(key: str | None, value: str | None) -> StreamEvent | None:
    """One record of Debezium's JSON format (schemas off).

    Returns None for what carries nothing: tombstones, Debezium's own heartbeats, other notifications.

    Raises:
        UndecodableEvent: the JSON is not of the documented form.
    """
    if value is None:
        return None
    return event_of(parsed(key), parsed(value))


def parsed(text: str | None) -> Any:
    """The JSON of a key or a value; numbers with a fraction stay texts.

    Raises:
        UndecodableEvent: it is no JSON, or nested too deep.
    """
    try:
        return None if text is None else json.loads(text, parse_float=str)
    except (ValueError, RecursionError) as error:
        raise _undecodable(error) from None


def event_of(key: Any, body: Any) -> StreamEvent | None:
    """The same of a key and a value that are decoded already; numbers with a fraction are texts in them.

    Raises:
        UndecodableEvent: they are not of the documented form.
    """
    try:
        if "aggregate_type" in body:
            return _notification(body)
        operation = body.get("op")
        if operation is None:
            return None
        source = body["source"]
        if operation == "m":
            return Message(
                content=bytes.fromhex(body["message"]["content"]).decode("utf-8", "replace"),
                position=_position(source["sequence"]),
            )
        return ChangeEvent(
            schema=source["schema"],
            table=source["table"],
            operation=_OPERATIONS[operation],
            key=None if operation == "t" else key,
            row=body["after"] if operation in "cur" else None,
            position=_position(source["sequence"]),
            committed_at=_EPOCH + timedelta(microseconds=source["ts_us"]),
            backfill=operation == "r",
        )
    except (KeyError, ValueError, TypeError, AttributeError, OverflowError) as error:
        raise _undecodable(error) from None


def _undecodable(error: Exception) -> UndecodableEvent:
    # The value may hold what must not be logged; the names of its fields may not.
    return UndecodableEvent(f"event is not in Debezium's format: {type(error).__name__}: {error}")


def _position(sequence: str) -> Position:
    after_commit, change = json.loads(sequence)
    # A new slot has seen no commit yet: its first transaction starts after everything before it.
    return Position(Lsn(int(after_commit or change)), Lsn(int(change)))


def _notification(body: Mapping[str, Any]) -> TableScanned | None:
    if body["aggregate_type"] != "Incremental Snapshot" or body["type"] != "TABLE_SCAN_COMPLETED":
        return None
    data = body["additional_data"]
    scanned = _table(data["scanned_collection"])
    # Those that are still to be read, this one first. Asked for again before its end, it stands there twice, and the
    # notifications of both have the later one's id: only the last speaks for all of it.
    if [_table(waiting) for waiting in data.get("data_collections", "").split(",")].count(scanned) > 1:
        return None
    status = data["status"]
    failure = None if status in _READ_TO_THE_END else f"Debezium did not read it to its end ({status})"
    return TableScanned(*scanned, backfill_number(body.get("id") or ""), failure)


def _table(collection: str) -> tuple[str, str]:
    """Schema and name; Debezium may write the database before them."""
    schema, _, table = collection.rpartition(".")
    return schema.rpartition(".")[2], table
