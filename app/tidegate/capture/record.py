"""Records of Kafka, decoded: keys are JSON, values JSON or what a schema registry describes."""

import json
import time
from collections import OrderedDict
from collections.abc import Callable
from dataclasses import dataclass, field, replace
from typing import Any

from tidegate.capture import change_event
from tidegate.capture.avro import avro_reader
from tidegate.capture.change_event import ChangeEvent, StreamEvent, TableScanned, Undecodable, UndecodableEvent
from tidegate.capture.converter import reading_url, require_registry
from tidegate.capture.names import written
from tidegate.capture.partitioning import TABLE_FIELD
from tidegate.capture.schema_registry import RegistryAway, SchemaRegistry, SchemaUnknown
from tidegate.capture.schema_requests import SchemaRequests
from tidegate.settings import Settings

_SCHEMAS = 1_000
_MAGIC = 0
_HEADER = 5


@dataclass
class Records:
    """Makes events of records. What a value begins with says its format, so that a topic may have several: a brace
    JSON, a zero byte and a schema's id the registry's (Confluent's wire format).

    Args:
        registry: None: there is none.
        lag_s: how long after a record was sent its schema may still be unknown to the registry.
    """

    registry: SchemaRegistry | None
    lag_s: float = 30.0
    _readers: "OrderedDict[int, Callable[[bytes], Any]]" = field(default_factory=OrderedDict)

    def __post_init__(self) -> None:
        self._requests = None if self.registry is None else SchemaRequests(self.registry)

    @classmethod
    def of(cls, settings: Settings) -> "Records":
        """As the settings say.

        Raises:
            UsageError: the format needs a registry, or a package, that is not there.
        """
        require_registry(settings)
        if settings.kafka.value_format == "avro":
            avro_reader('"null"')  # says now what is missing
        url = settings.registry.url
        registry = None if url is None else SchemaRegistry(reading_url(settings.registry), settings.registry)
        return cls(registry, settings.registry.lag_s)

    def event(self, record: Any, source: str) -> StreamEvent | None:
        """The record's event. What cannot be decoded is one, too: Undecodable, with its place.

        Raises:
            RegistryAway: its schema must be asked for, and the registry does not answer, has not answered yet
                (SchemaAwaited), or may not have heard of it yet.
        """
        if record.value is None:
            return None
        try:
            found = change_event.event_of(_json(record.key), self.value(record.value))
        except (UndecodableEvent, SchemaUnknown) as error:
            if isinstance(error, SchemaUnknown) and self._is_new(record):
                raise RegistryAway(f"{error}; it may come yet") from None
            place = {"topic": record.topic, "partition": record.partition, "offset": record.offset}
            return Undecodable(json.dumps(place), str(error))
        if isinstance(found, ChangeEvent):
            return replace(found, key=_key(found.key, escaped=record.value[0] == _MAGIC), source=source)
        return replace(found, source=source) if isinstance(found, TableScanned) else found

    def _is_new(self, record: Any) -> bool:
        """Whether the record was sent a moment ago. Its schema was registered before; but who is asked may be a replica
        that hears of it later. A clock that goes wrong is no reason to wait."""
        return record.timestamp is not None and bool(abs(time.time() - record.timestamp / 1000) < self.lag_s)

    def value(self, value: bytes) -> Any:
        """The value as JSON has it.

        Raises:
            UndecodableEvent, SchemaUnknown: it is in no format that can be read.
            RegistryAway: see above.
        """
        if not value or value[0] != _MAGIC:
            return _json(value)
        if self._requests is None:
            raise UndecodableEvent("the value needs a schema registry; set TIDEGATE_REGISTRY__URL")
        if len(value) < _HEADER:
            raise UndecodableEvent("the value ends before its schema's id does")
        return self._reader(int.from_bytes(value[1:_HEADER], "big"))(value[_HEADER:])

    def _reader(self, number: int) -> Callable[[bytes], Any]:
        """What reads values of a schema. Asked for once; the last used are kept."""
        found = self._readers.get(number)
        if found is not None:
            self._readers.move_to_end(number)
            return found
        assert self._requests is not None
        schema = self._requests.schema(number)
        if schema.kind != "AVRO" or schema.references:
            raise UndecodableEvent(f"schema {number} is {schema.kind}, or refers to others; that is not read")
        made = self._readers[number] = avro_reader(schema.text)
        if len(self._readers) > _SCHEMAS:
            self._readers.popitem(last=False)
        return made


def _key(key: Any, *, escaped: bool) -> Any:
    """The key's columns. Where values have no JSON, Debezium has escaped the names in keys, too."""
    if key is None:
        return None
    return {written(name) if escaped else name: value for name, value in key.items() if name != TABLE_FIELD}


def _json(text: bytes | None) -> Any:
    """See change_event.parsed."""
    try:
        return change_event.parsed(None if text is None else text.decode())
    except UnicodeDecodeError:
        raise UndecodableEvent("not UTF-8") from None
