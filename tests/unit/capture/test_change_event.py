"""Records as Debezium 3.6 writes them (JSON, schemas off) to change events."""

import json
from datetime import UTC, datetime
from typing import Any

import pytest

from tidegate.capture.change_event import (
    UNAVAILABLE,
    ChangeEvent,
    Message,
    Operation,
    TableScanned,
    UndecodableEvent,
    decode,
    event_of,
)
from tidegate.capture.position import Lsn, Position

SOURCE: dict[str, Any] = {
    "version": "3.6.3.Final", "connector": "postgresql", "name": "tidegate", "ts_ms": 1767225600123,
    "snapshot": "false", "db": "test", "sequence": '["24023128","24023256"]', "ts_us": 1767225600123456,
    "ts_ns": 1767225600123456000, "schema": "team", "table": "note", "txId": 743, "lsn": 24023256, "xmin": None,
}  # fmt: skip
ROW = {"id": 1, "title": "a", "price": "19.90", "secret": None}
POSITION = Position(Lsn(24023128), Lsn(24023256))
AT = datetime(2026, 1, 1, 0, 0, 0, 123456, UTC)


def record(op: str, *, before: Any = None, after: Any = None, source: dict[str, Any] | None = None, **more: Any) -> str:
    body = {
        "before": before,
        "after": after,
        "source": SOURCE | (source or {}),
        "transaction": None,
        "op": op,
        "ts_ms": 1,
    }
    return json.dumps(body | more)


@pytest.mark.parametrize("op", ["c", "u"])
def test_a_row_that_was_written(op: str):
    assert decode('{"id":1}', record(op, after=ROW)) == ChangeEvent(
        "team", "note", Operation.UPSERT, {"id": 1}, ROW, POSITION, AT, backfill=False
    )


def test_a_row_of_a_backfill_has_its_position_in_the_sequence():
    value = record("r", after=ROW, source={"snapshot": "incremental", "lsn": None, "txId": None})
    event = decode('{"id":1}', value)
    assert isinstance(event, ChangeEvent)
    assert event.backfill
    assert event.position == POSITION
    assert event.operation is Operation.UPSERT


def test_before_the_first_commit_of_a_slot_the_change_itself_is_the_place():
    event = decode('{"id":1}', record("c", after=ROW, source={"sequence": '[null,"24023256"]'}))
    assert isinstance(event, ChangeEvent)
    assert event.position == Position(Lsn(24023256), Lsn(24023256))


def test_a_delete_has_a_key_and_no_row():
    event = decode('{"id":1}', record("d", before={"id": 1, "title": None}))
    assert event == ChangeEvent("team", "note", Operation.DELETE, {"id": 1}, None, POSITION, AT)


def test_a_truncate_has_neither():
    event = decode(None, record("t"))
    assert event == ChangeEvent("team", "note", Operation.TRUNCATE, None, None, POSITION, AT)


def test_a_message_has_content_and_position():
    value = record("m", message={"prefix": "tidegate", "content": "63617461 6c6f67".replace(" ", "")})
    assert decode('{"prefix":"tidegate"}', value) == Message("catalog", POSITION)


def test_the_end_of_a_tables_backfill():
    value = {
        "id": "backfill-17", "aggregate_type": "Incremental Snapshot",
        "type": "TABLE_SCAN_COMPLETED", "timestamp": 1767225600123,
        "additional_data": {
            "connector_name": "tidegate", "data_collections": "test.team.note", "scanned_collection": "test.team.note",
            "total_rows_scanned": "3000", "status": "SUCCEEDED",
        },
    }  # fmt: skip
    assert decode('{"id":"a6a2"}', json.dumps(value)) == TableScanned("team", "note", 17)
    two_parts = value | {"additional_data": {"scanned_collection": "team.note", "status": "EMPTY"}}
    assert decode(None, json.dumps(two_parts)) == TableScanned("team", "note", 17)
    for foreign in ("a6a2a9c0-8a3e-4b6c-9b1e-1f9f5c2f3c11", "backfill-", "backfill-17 ", f"backfill-{10**19}"):
        assert decode(None, json.dumps(value | {"id": foreign})) == TableScanned("team", "note", 0)


def test_the_end_of_a_tables_backfill_that_failed_or_is_not_the_last():
    def told(waiting: str, status: str = "SUCCEEDED"):
        data = {"scanned_collection": "test.team.note", "data_collections": waiting, "status": status}
        value = {"id": "backfill-17", "aggregate_type": "Incremental Snapshot", "type": "TABLE_SCAN_COMPLETED"}
        return decode(None, json.dumps(value | {"additional_data": data}))

    assert told("test.team.note,team.note") is None
    assert told("test.team.note,test.other.note,test.team.notes") == TableScanned("team", "note", 17)
    failed = told("test.team.note", "SQL_EXCEPTION")
    assert isinstance(failed, TableScanned)
    assert failed.failure == "Debezium did not read it to its end (SQL_EXCEPTION)"


@pytest.mark.parametrize(
    "value",
    [
        None,  # tombstone
        '{"ts_ms":1767225600123}',  # Debezium's own heartbeat
        '{"aggregate_type":"Initial Snapshot","type":"COMPLETED","additional_data":{},"id":"x","timestamp":1}',
        '{"aggregate_type":"Incremental Snapshot","type":"STARTED","additional_data":{},"id":"x","timestamp":1}',
    ],
)
def test_what_carries_nothing(value: str | None):
    assert decode('{"id":1}', value) is None


def test_an_unknown_value_is_kept_as_unknown():
    event = decode('{"id":1}', record("u", after=ROW | {"title": UNAVAILABLE}))
    assert isinstance(event, ChangeEvent)
    assert event.row is not None
    assert event.row["title"] == UNAVAILABLE


def test_numbers_keep_their_digits():
    event = decode(
        '{"id":12345678901234567890.5}', record("c").replace('"after": null', '"after": {"x": 0.10000000000000000001}')
    )
    assert isinstance(event, ChangeEvent)
    assert event.key == {"id": "12345678901234567890.5"}
    assert event.row == {"x": "0.10000000000000000001"}


def test_only_the_named_columns_go_further():
    event = decode('{"id":1}', record("c", after=ROW | {"secret": "hunter2"}))
    assert isinstance(event, ChangeEvent)
    assert event.only(frozenset({"id", "title", "other"})).row == {"id": 1, "title": "a"}
    deleted = decode('{"id":1}', record("d"))
    assert isinstance(deleted, ChangeEvent)
    assert deleted.only(frozenset()) is deleted


SECRET = "hunter2-row-value"
SNAPSHOT = {"aggregate_type": "Incremental Snapshot"}


@pytest.mark.parametrize(
    ("key", "value"),
    [
        ("{}", f'{{"op":"c","after":{{"title":"{SECRET}"}}'),  # cut off
        ("{}", f'"{SECRET}"'),
        ("{}", f'["{SECRET}"]'),
        ("{}", record("x", after={"title": SECRET})),
        ("{}", record("c", after={"title": SECRET}, source={"sequence": SECRET})),
        ("{}", record("c", after={"title": SECRET}, source={"ts_us": SECRET})),
        ("{}", record("m", message={"content": SECRET})),
        ("{}", f"{{{SECRET}"),
        (f'{{"id": {SECRET}}}', record("c", after={"title": SECRET})),
        (SECRET, record("c", after={"title": SECRET})),
        ("{}", json.dumps(SNAPSHOT | {"type": "TABLE_SCAN_COMPLETED", "additional_data": SECRET})),
        ("{}", json.dumps(SNAPSHOT | {"additional_data": {SECRET: SECRET}})),
        ("{}", "null"),
        ("{}", "17"),
        ("{}", ""),
        ("{}", '{"op":"c"}'),
    ],
)  # fmt: skip
def test_what_is_not_in_the_format_is_refused_without_its_values(key: str, value: str):
    with pytest.raises(UndecodableEvent) as refused:
        decode(key, value)
    assert SECRET not in str(refused.value)
    assert refused.value.__cause__ is None
    assert refused.value.__suppress_context__


@pytest.mark.parametrize("moment", [2**58, -(2**62)])
def test_a_moment_out_of_range_is_undecodable(moment: int) -> None:
    value = {"op": "c", "before": None, "after": {"id": 1},
             "source": {"ts_us": moment, "sequence": "[\"1\", \"2\"]", "schema": "a", "table": "b"}}  # fmt: skip
    with pytest.raises(UndecodableEvent, match="OverflowError"):
        event_of({"id": 1}, value)


def test_what_is_nested_too_deep_is_undecodable() -> None:
    deep = "[" * 200_000 + "]" * 200_000
    with pytest.raises(UndecodableEvent, match="RecursionError"):
        decode(json.dumps({"id": 1}), deep)
