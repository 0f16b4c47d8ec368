"""Benchmarks through Kafka: which cluster, which programs, and the floor of its transport."""

import contextlib
import json
import sys
import time
import uuid
from collections.abc import Iterator
from typing import Any

from tidegate.bench.process import Program, program
from tidegate.bench.report import BenchFailed
from tidegate.capture.change_event import ChangeEvent
from tidegate.capture.kafka_client import servers
from tidegate.capture.record import Records
from tidegate.capture.source import Source, sources
from tidegate.capture.stream import HOME
from tidegate.connectors import Connectors
from tidegate.database import connect
from tidegate.settings import Settings

_PATIENCE_S = 90.0


def bench_settings() -> Settings:
    """The settings, of which the slot is the benchmark's own.

    Raises:
        UsageError: no Kafka is set.
        BenchFailed: no Kafka Connect is set.
    """
    settings = Settings()
    servers(settings.kafka)
    if settings.connect.url is None:
        raise BenchFailed("a benchmark through Kafka needs Kafka Connect: set TIDEGATE_CONNECT__URL")
    settings.slot = None
    return settings


@contextlib.contextmanager
def connected(dsn: str, settings: Settings) -> Iterator[Source]:
    """A connector on the database, as `tidegate connect apply` makes it, under a prefix of its own that
    `settings` gets; it and its topic go at the end."""
    settings.kafka.prefix = f"tidegate_bench_{uuid.uuid4().hex[:8]}"
    with connect(dsn) as connection:
        connectors = Connectors(connection, settings)
        try:
            connectors.apply(_PATIENCE_S)
            yield sources(settings, dsn, connection.info.dbname)[HOME]
        finally:
            connectors.delete()
            _drop_topics(settings, [source.topic for source in connectors.sources.values()])


@contextlib.contextmanager
def tidegate_worker(dsn: str, settings: Settings, *, patient: bool = False) -> Iterator[Program]:
    """`tidegate worker` on a database, as a user starts it. SIGTERM at the end, as a user stops it.

    Args:
        patient: the group bears that it is stopped for a while.
    """
    extra = {"TIDEGATE_KAFKA__PREFIX": str(settings.kafka.prefix)}
    if patient:
        extra["TIDEGATE_KAFKA__SESSION_TIMEOUT_MS"] = "300000"
    with program([sys.executable, "-m", "tidegate.cli", "worker"], dsn, extra) as running:
        yield running


@contextlib.contextmanager
def arrivals(settings: Settings, source: Source) -> Iterator["Arrivals"]:
    """The raw floor of the transport: a plain kafka-python consumer of the connector's topic."""
    held = Arrivals(settings, source)
    try:
        yield held
    finally:
        held.close()


class Arrivals:
    """When changes arrive at a consumer that does nothing else, with the shipped fetch settings."""

    def __init__(self, settings: Settings, source: Source):
        from kafka import KafkaConsumer, TopicPartition

        self._source, self._records = source, Records.of(settings)
        self._consumer: Any = KafkaConsumer(
            bootstrap_servers=servers(settings.kafka), fetch_max_wait_ms=50, auto_offset_reset="latest",
            enable_auto_commit=False,
        )  # fmt: skip
        deadline = time.monotonic() + _PATIENCE_S
        while not (partitions := self._consumer.partitions_for_topic(source.topic)):
            if time.monotonic() > deadline:
                raise BenchFailed(f"topic {source.topic} did not come into being")
            time.sleep(0.2)
        self._consumer.assign([TopicPartition(source.topic, partition) for partition in partitions])
        self._consumer.seek_to_end()
        for partition in self._consumer.assignment():
            self._consumer.position(partition)

    def await_row(self, number: int) -> int:
        """When the next change of bench.product's row arrived, monotonic ns."""
        deadline = time.monotonic() + _PATIENCE_S
        while time.monotonic() < deadline:
            records = self._consumer.poll(timeout_ms=1000)
            arrived = time.monotonic_ns()
            for batch in records.values():
                for record in batch:
                    key = json.loads(record.key)
                    if record.value is not None and key.get("id") == number:
                        return arrived
        raise BenchFailed(f"no change arrived through Kafka for {_PATIENCE_S:.0f} s")

    def rate(self) -> float:
        """Row changes a second, read from the start of the topic and decoded."""
        partitions = sorted(self._consumer.assignment())
        ends = self._consumer.end_offsets(partitions)
        self._consumer.seek_to_beginning()
        began, changes = time.monotonic(), 0
        while any(self._consumer.position(partition) < ends[partition] for partition in partitions):
            for batch in self._consumer.poll(timeout_ms=1000, max_records=2000).values():
                decoded = (self._records.event(record, self._source.name) for record in batch)
                changes += sum(isinstance(event, ChangeEvent) for event in decoded)
        return round(changes / (time.monotonic() - began), 1)

    def close(self) -> None:
        self._consumer.close()


def raw_rate(settings: Settings, source: Source) -> float:
    """Changes a second that a raw consumer reads from the start of the topic and decodes."""
    held = Arrivals(settings, source)
    try:
        return held.rate()
    finally:
        held.close()


def _drop_topics(settings: Settings, topics: list[str]) -> None:
    from kafka.errors import KafkaError

    from kafka import KafkaAdminClient

    admin = KafkaAdminClient(bootstrap_servers=servers(settings.kafka))
    try:
        admin.delete_topics(topics)
    except KafkaError:
        pass  # it was never made, or may not be deleted: another prefix comes next time
    finally:
        admin.close()
