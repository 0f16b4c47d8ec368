"""A record of a Kafka topic as an event of its stream."""

import json
from dataclasses import replace
from typing import Any

from tidegate.capture.change_event import ChangeEvent, StreamEvent, TableScanned, Undecodable, UndecodableEvent, decode
from tidegate.capture.partitioning import TABLE_FIELD


def event_of(record: Any, source: str) -> StreamEvent | None:
    """The event that a record of the source's topic carries; None: it carries none. A record that cannot be read is
    an `Undecodable` with its place."""
    try:
        event = decode(_text(record.key), _text(record.value))
    except (UndecodableEvent, UnicodeDecodeError) as error:
        place = {"topic": record.topic, "partition": record.partition, "offset": record.offset}
        reason = str(error) if isinstance(error, UndecodableEvent) else "not UTF-8"
        return Undecodable(json.dumps(place), reason)
    if isinstance(event, ChangeEvent):
        key = event.key
        if key is not None and TABLE_FIELD in key:
            key = {name: value for name, value in key.items() if name != TABLE_FIELD}
        return replace(event, key=key, source=source)
    return replace(event, source=source) if isinstance(event, TableScanned) else event


def _text(value: bytes | None) -> str | None:
    return None if value is None else value.decode()
