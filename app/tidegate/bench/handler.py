"""The floor of capture: Debezium with the shipped engine's settings and a handler that only notes the time.

A program of its own (`python -m tidegate.bench.handler`, database in TIDEGATE_DSN). It writes a line a row
change to stdout, `<time.monotonic_ns() at which the handler was called> <id>`, until SIGTERM.
"""

import os
import signal
import threading
import time
from collections.abc import Sequence
from typing import Any

from tidegate.capture.acknowledgement import Acknowledgements
from tidegate.capture.change_event import ChangeEvent, StreamEvent, decode
from tidegate.capture.engine import EmbeddedEngine, EngineConfig
from tidegate.capture.stream import EMBEDDED, Stream
from tidegate.settings import Settings


class Stopwatch(EmbeddedEngine):
    """The engine with the shortest handler there can be: the time first, everything else after it."""

    def _handle(self, records: Any, committer: Any) -> None:
        arrived = time.monotonic_ns()
        record = None
        lines = []
        for record in records:
            value = record.value()
            event = decode(None if record.key() is None else str(record.key()), None if value is None else str(value))
            if isinstance(event, ChangeEvent) and event.schema == "bench" and event.key is not None:
                lines.append(f"{arrived} {event.key['id']}")
        committer.markProcessed(record)
        committer.markBatchFinished()
        if lines:
            print("\n".join(lines), flush=True)


class _Nobody:
    def receive(self, events: Sequence[tuple[int, StreamEvent]], stream: Stream = EMBEDDED) -> None:
        """Nothing comes this far."""


def main() -> None:
    """Runs until SIGTERM."""
    stop = threading.Event()
    for number in (signal.SIGINT, signal.SIGTERM):
        signal.signal(number, lambda *_: stop.set())
    settings = Settings()
    assert settings.dsn is not None
    assert settings.slot is not None
    config = EngineConfig(
        settings.dsn, settings.slot, settings.poll_interval_ms, settings.heartbeat_ms, settings.jvm_heap_mb
    )
    engine = Stopwatch(config, _Nobody(), Acknowledgements())
    engine.start()
    while not stop.wait(0.2):
        failure = engine.failure()
        if failure is not None:
            raise failure
    engine.stop()
    os._exit(0)  # the JVM's own threads do not end by themselves


if __name__ == "__main__":
    main()
