"""Which partition a key goes to, and keys that go to each of them."""

import itertools
import json
from collections.abc import Iterator, Mapping
from dataclasses import dataclass

from tidegate.capture.debezium import MESSAGE_PREFIX
from tidegate.capture.names import escaped

TABLE_FIELD = "__dbz__physicalTableIdentifier"
"""What the connector adds to each key: all tables go to one topic, where two rows must not have one key."""
HEARTBEATS = range(1_000, 16_000)
CATALOG_BEATS = range(16_000, 32_000)
"""Numbers of rows of tidegate.heartbeat (a smallint): those that Debezium touches, and those that `apply` does."""


@dataclass(frozen=True, slots=True)
class Marks:
    """One of each a partition, in the order of the partitions.

    Attributes:
        heartbeats, catalog_beats: rows of tidegate.heartbeat.
        prefixes: of logical decoding messages.
    """

    heartbeats: tuple[int, ...]
    catalog_beats: tuple[int, ...]
    prefixes: tuple[str, ...]


def marks(topic_prefix: str, partitions: int, *, escape: bool = False) -> Marks:
    """The marks of a topic with this many partitions, to which a connector of this prefix writes JSON keys.

    Args:
        escape: it escapes the columns' names in them (names.py).
    """
    column = escaped("heartbeat_id") if escape else "heartbeat_id"

    def rows(numbers: range) -> tuple[int, ...]:
        table = f"{topic_prefix}.tidegate.heartbeat"
        found = _one_each({n: {column: n, TABLE_FIELD: table} for n in numbers}, partitions)
        return tuple(int(number) for number in found)

    table = f"{topic_prefix}.message"
    prefixes = (f"{MESSAGE_PREFIX}.{number}" for number in itertools.count())
    keys = ((prefix, {"prefix": prefix, TABLE_FIELD: table}) for prefix in prefixes)
    return Marks(rows(HEARTBEATS), rows(CATALOG_BEATS), tuple(str(name) for name in _one_each(keys, partitions)))


def partition_of(key: Mapping[str, object], partitions: int) -> int:
    """The partition that Kafka's own partitioner gives a key that Connect's JSON converter wrote."""
    from kafka.partitioner.default import murmur2

    text = json.dumps(key, ensure_ascii=False, separators=(",", ":"))
    return int((murmur2(text.encode()) & 0x7FFFFFFF) % partitions)


def _one_each(
    keys: Mapping[int, Mapping[str, object]] | Iterator[tuple[str, Mapping[str, object]]], partitions: int
) -> list[int | str]:
    found: dict[int, int | str] = {}
    for name, key in keys.items() if isinstance(keys, Mapping) else keys:
        found.setdefault(partition_of(key, partitions), name)
        if len(found) == partitions:
            return [found[partition] for partition in range(partitions)]
    raise ValueError(f"{partitions} partitions are more than there are heartbeat rows for")
