"""Debezium's embedded engine: delivers the changes of a database to a receiver, in commit order."""

import logging
import threading
from collections.abc import Sequence
from dataclasses import dataclass
from typing import Any, Protocol

from tidegate.capture.acknowledgement import Acknowledgements
from tidegate.capture.change_event import StreamEvent, decode
from tidegate.capture.debezium import MESSAGE_PREFIX, source_properties
from tidegate.capture.jvm import start_jvm
from tidegate.capture.stream import EMBEDDED, Stream
from tidegate.errors import TidegateError

log = logging.getLogger(__name__)

HEARTBEAT = "UPDATE tidegate.heartbeat SET beat_at = clock_timestamp() WHERE heartbeat_id = 1"
NOTIFICATION_TOPIC = "tidegate.notification"


class EngineStopped(TidegateError):
    """Debezium's engine stopped by itself."""


class Receiver(Protocol):
    """Takes the events of the stream. It may block: that is the back-pressure."""

    def receive(self, events: Sequence[tuple[int, StreamEvent]], stream: Stream = EMBEDDED) -> None:
        """Takes numbered events in their stream's order, and later finishes every number at the acknowledgements.

        Events that are not taken (at the end) are not finished, and thus come again after the next start.
        """


@dataclass(frozen=True, slots=True)
class EngineConfig:
    """What the engine needs to know.

    Attributes:
        dsn: the source database; the engine speaks TCP only.
        poll_ms: how long Debezium rests between two looks at its queue.
        heartbeat_ms: how often it moves the watermark of an idle database.
        excluded_columns: `schema.table.column` of what must not even enter the engine.
    """

    dsn: str
    slot: str
    poll_ms: int
    heartbeat_ms: int
    heap_mb: int
    excluded_columns: tuple[str, ...] = ()

    def properties(self) -> dict[str, str]:
        """Debezium's properties (PostgreSQL connector 3.6)."""
        properties = source_properties(
            self.dsn,
            slot=self.slot,
            poll_ms=self.poll_ms,
            heartbeat_ms=self.heartbeat_ms,
            heartbeat=HEARTBEAT,
            excluded_columns=self.excluded_columns,
        )
        host, port, database = (properties[f"database.{part}"] for part in ("hostname", "port", "dbname"))
        sslmode = properties["database.sslmode"]
        return properties | {
            "name": "tidegate",
            "topic.prefix": "tidegate",
            "message.prefix.include.list": MESSAGE_PREFIX,
            "notification.sink.topic.name": NOTIFICATION_TOPIC,
            "offset.storage": "io.debezium.storage.jdbc.offset.JdbcOffsetBackingStore",
            "offset.storage.jdbc.connection.url": f"jdbc:postgresql://{host}:{port}/{database}?sslmode={sslmode}",
            "offset.storage.jdbc.connection.user": properties["database.user"],
            "offset.storage.jdbc.connection.password": properties["database.password"],
            "offset.storage.jdbc.table.name": "tidegate.debezium_offset",
            # Debezium does not find a table by its qualified name and would create it again.
            "offset.storage.jdbc.table.ddl": "CREATE TABLE IF NOT EXISTS %s (id text PRIMARY KEY)",
            "offset.flush.interval.ms": "1000",
        }


class EmbeddedEngine:
    """Debezium in this process.

    The order of work: the receiver writes to Postgres, finishes the events' numbers, and only then does the
    engine acknowledge the batch, whose offset Debezium writes within a second. A kill at any moment thus
    repeats events and loses none.
    """

    def __init__(self, config: EngineConfig, receiver: Receiver, acknowledgements: Acknowledgements[Any]):
        self._config = config
        self._receiver = receiver
        self._acknowledgements = acknowledgements
        self._jpype: Any = None
        self._engine: Any = None
        self._thread: threading.Thread | None = None
        self._failure: BaseException | None = None
        self._message = ""
        self._stopping = threading.Event()
        self.stopped = threading.Event()

    def start(self) -> None:
        """Starts the JVM and the engine; returns at once."""
        self._jpype = start_jvm(self._config.heap_mb)
        jclass = self._jpype.JClass
        properties = jclass("java.util.Properties")()
        for name, value in self._config.properties().items():
            properties.setProperty(name, value)
        self._engine = (
            jclass("io.debezium.engine.DebeziumEngine")
            .create(jclass("io.debezium.engine.format.Json"))
            .using(properties)
            .using(self._completion())
            .notifying(self._consumer())
            .build()
        )
        self._thread = threading.Thread(target=self._run, name="debezium", daemon=True)
        self._thread.start()

    def stop(self, timeout: float = 30.0) -> None:
        """Stops delivery, writes the offsets and ends the engine's thread."""
        self._stopping.set()
        if self._engine is not None:
            try:
                self._engine.close()
            except Exception as error:  # a Java exception: the engine was not running any more
                log.debug("engine close", extra={"reason": str(error)})
        if self._thread is not None:
            self._thread.join(timeout)

    def failure(self) -> EngineStopped | None:
        """Why the engine stopped by itself, if it did."""
        if self._failure is not None:
            return EngineStopped(f"Debezium's engine stopped: {type(self._failure).__name__}: {self._failure}")
        if self.stopped.is_set() and not self._stopping.is_set():
            return EngineStopped(f"Debezium's engine stopped: {self._message or 'no reason given'}")
        return None

    def _run(self) -> None:
        try:
            self._engine.run()
        except BaseException as error:  # jpype raises Java's throwables as Python exceptions of its own
            self._failure = self._failure or error
        finally:
            self.stopped.set()

    def _completion(self) -> Any:
        def handle(success: bool, message: Any, error: Any) -> None:
            if not success:
                self._message = f"{message} {error if error is not None else ''}".strip()

        return self._jpype.JProxy("io.debezium.engine.DebeziumEngine$CompletionCallback", dict={"handle": handle})

    def _consumer(self) -> Any:
        def handle_batch(records: Any, committer: Any) -> None:
            try:
                self._handle(records, committer)
            except BaseException as error:
                self._failure = error
                raise

        def supports_tombstones() -> bool:
            return True

        return self._jpype.JProxy(
            "io.debezium.engine.DebeziumEngine$ChangeConsumer",
            dict={"handleBatch": handle_batch, "supportsTombstoneEvents": supports_tombstones},
        )

    def _handle(self, records: Any, committer: Any) -> None:
        events: list[tuple[int, StreamEvent]] = []
        record = None
        for record in records:
            key, value = record.key(), record.value()
            event = decode(None if key is None else str(key), None if value is None else str(value))
            if event is not None:
                events.append((self._acknowledgements.open(), event))
        self._acknowledgements.batch(record)
        if events:
            self._receiver.receive(events)
        # Heartbeats bring a batch every second, so nothing that is finished waits longer than that.
        finished = self._acknowledgements.acknowledgeable()
        if finished is not None:
            committer.markProcessed(finished)
            committer.markBatchFinished()
