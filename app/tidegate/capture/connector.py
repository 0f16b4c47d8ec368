"""The connector that Kafka Connect runs for a source: its configuration, the one place that it stands in."""

import re
from collections.abc import Mapping, Sequence
from dataclasses import dataclass

from tidegate.capture.converter import value_properties
from tidegate.capture.debezium import MESSAGE_PREFIX, source_properties
from tidegate.capture.source import Source
from tidegate.settings import Settings

HEARTBEAT = (
    "UPDATE tidegate.heartbeat SET beat_at = clock_timestamp() "
    "WHERE heartbeat_id = 1 OR heartbeat_id BETWEEN 1000 AND 15999"
)
"""The rows that the workers put there, one a partition (partitioning.py, HEARTBEATS): so that a topic may grow."""
_SECRET = re.compile(r"password|secret|token|jaas|user\.info|authorization", re.IGNORECASE)
_MASK = "********"


def topic_config(settings: Settings) -> dict[str, str]:
    """Configuration of a topic of changes.

    Not compacted: a TRUNCATE has no key, and a compacted topic refuses it.
    """
    return {
        "cleanup.policy": "delete",
        "retention.ms": str(settings.kafka.retention_hours * 3_600_000),
        "max.message.bytes": str(settings.kafka.max_message_bytes),
    }


def connector_config(source: Source, settings: Settings, excluded_columns: Sequence[str] = ()) -> dict[str, str]:
    """The connector's configuration as Connect's REST interface takes it.

    All tables of a source go to one topic, by key: so the partitions of that topic are all the streams there are
    (capture/stream.py), and a consumer need not look for new topics when a product is published.
    """
    prefix = source.prefix
    creation = {f"topic.creation.default.{name}": value for name, value in topic_config(settings).items()}
    return {
        **source_properties(
            source.dsn,
            slot=source.slot,
            poll_ms=settings.poll_interval_ms,
            heartbeat_ms=settings.heartbeat_ms,
            heartbeat=HEARTBEAT,
            excluded_columns=excluded_columns,
        ),
        "tasks.max": "1",
        "topic.prefix": prefix,
        "message.prefix.include.list": rf"{MESSAGE_PREFIX}(\..*)?",
        "notification.sink.topic.name": f"{prefix}.notification",
        # Two tables' rows with one key stay two keys: the router adds the table's name to it.
        "transforms": "route",
        "transforms.route.type": "io.debezium.transforms.ByLogicalTableRouter",
        "transforms.route.topic.regex": re.escape(prefix) + r"\..*",
        "transforms.route.topic.replacement": source.topic,
        # Keys are JSON whatever values are: the partition of a heartbeat follows from its key.
        "key.converter": "org.apache.kafka.connect.json.JsonConverter",
        **value_properties(settings),
        "topic.creation.default.partitions": str(settings.kafka.partitions),
        "topic.creation.default.replication.factor": str(settings.kafka.replication_factor),
        **creation,
        "producer.override.max.request.size": str(settings.kafka.max_message_bytes),
        "producer.override.linger.ms": "0",
        **settings.connect.properties,
        **settings.connect.sources.get(source.name, {}),
    }


@dataclass(frozen=True, slots=True)
class Difference:
    """A property that is another in Connect than it should be; None: not there. Secrets are masked."""

    name: str
    there: str | None
    wanted: str | None

    def __str__(self) -> str:
        if self.there is None:
            return f"+ {self.name} = {self.wanted}"
        if self.wanted is None:
            return f"- {self.name} = {self.there}"
        return f"~ {self.name}: {self.there} → {self.wanted}"


def differences(there: Mapping[str, str], wanted: Mapping[str, str]) -> list[Difference]:
    """What would change, by name."""
    return [
        Difference(name, _shown(name, there.get(name)), _shown(name, wanted.get(name)))
        for name in sorted(there.keys() | wanted.keys())
        if there.get(name) != wanted.get(name) and name != "name"
    ]


def _shown(name: str, value: str | None) -> str | None:
    return _MASK if value is not None and _SECRET.search(name) else value
