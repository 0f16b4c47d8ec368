"""The floor of freshness: what no pipeline of these parts can be faster than."""

import contextlib
import queue
import random
import sys
import threading
import time
from collections.abc import Callable, Iterator, Sequence
from dataclasses import dataclass, field

import numpy as np
from pgvector import Vector

from tidegate.bench.process import Program, program
from tidegate.bench.report import BenchFailed, percentiles
from tidegate.bench.texts import Text
from tidegate.capture.slot import default_slot, ensure_slot
from tidegate.database import Connection, connect, register_vectors
from tidegate.index.embedding.embedder import Embedder
from tidegate.settings import Settings

_UPDATE = "UPDATE bench.product SET name = %s, description = %s WHERE id = %s"
_PLAIN_TABLE = "CREATE TABLE IF NOT EXISTS bench.plain (LIKE rag_bench.product INCLUDING DEFAULTS INCLUDING INDEXES)"
_PLAIN_INSERT = (
    "INSERT INTO bench.plain "
    "(id, region, price, chunk_no, content, content_hash, embedding, position, contract_version) VALUES"
    " (%s, 'EU', 9.90, 0, %s, sha256(convert_to(%s, 'UTF8')), %s, '{0/0,0/0}', '1.0.0')"
)
_PATIENCE_S = 90.0


@dataclass(slots=True)
class Floor:
    """Times in ms, one a sample: commit → Debezium's handler, one embedding, one bare commit."""

    handler: list[float] = field(default_factory=list)
    embedding: list[float] = field(default_factory=list)
    commit: list[float] = field(default_factory=list)

    @property
    def p50_ms(self) -> float:
        """The sum of the three medians."""
        return round(sum(float(np.median(part)) for part in (self.handler, self.embedding, self.commit)), 2)

    def figures(self) -> dict[str, float]:
        """The sum, and each part."""
        figures = {"p50_ms": self.p50_ms}
        for name, part in (("handler", self.handler), ("embedding", self.embedding), ("commit", self.commit)):
            figures |= {f"{name}_{figure}": value for figure, value in percentiles(part).items()}
        return figures


def update(connection: Connection, number: int, text: Text) -> int:
    """Commits a row's new text; returns when that was, in monotonic ns: when the server said so."""
    connection.execute(_UPDATE, [text.name, text.description, number])
    return time.monotonic_ns()


def measure(
    dsn: str,
    texts: Sequence[Text],
    embedder: Embedder,
    floor: Floor,
    *,
    warm_up: int,
    rows: int,
    pause: Callable[[], None],
    tick: Callable[[], None],
    kafka: Settings | None = None,
) -> None:
    """Adds a sample a text to the floor, the first `warm_up` apart.

    The three parts of a sample follow each other, with a pause before the next sample, just as the pipeline
    works: nothing else runs meanwhile, and nothing is warmer than there.

    Args:
        dsn: a database with the benchmark's product, on which no pipeline runs.
        kafka: capture through Kafka Connect and a raw kafka-python consumer instead of the raw handler.
    """
    numbers = random.Random(rows)
    with connect(dsn) as connection, _captures(dsn, kafka) as captures:
        register_vectors(connection)
        connection.execute(_PLAIN_TABLE)
        connection.execute("TRUNCATE bench.plain")
        for index, text in enumerate(texts):
            number = numbers.randint(1, rows)
            committed = update(connection, number, text)
            captured = captures(number)
            began = time.monotonic_ns()
            vector = embedder.embed([text.document])[0]
            embedded = time.monotonic_ns()
            connection.execute(_PLAIN_INSERT, [index, text.document, text.document, Vector(vector)])
            written = time.monotonic_ns()
            if index >= warm_up:
                floor.handler.append((captured - committed) / 1e6)
                floor.embedding.append((embedded - began) / 1e6)
                floor.commit.append((written - embedded) / 1e6)
            tick()
            pause()


@contextlib.contextmanager
def _captures(dsn: str, kafka: Settings | None) -> Iterator[Callable[[int], int]]:
    """A function that waits for the change of a row, and tells when it was there."""
    if kafka is not None:
        from tidegate.bench.kafka import arrivals, connected

        with connected(dsn, kafka) as source, arrivals(kafka, source) as held:
            yield held.await_row
        return
    with connect(dsn) as connection:
        ensure_slot(connection, default_slot(connection.info.dbname))  # so that not even the first update is missed
    with program([sys.executable, "-m", "tidegate.bench.handler"], dsn) as handler:
        arrived = _arrivals(handler)
        yield lambda number: _arrival(handler, arrived, number)


def _arrivals(handler: Program) -> "queue.SimpleQueue[tuple[int, int]]":
    arrivals: queue.SimpleQueue[tuple[int, int]] = queue.SimpleQueue()

    def read() -> None:
        assert handler.process.stdout is not None
        for line in handler.process.stdout:
            arrived, number = line.split()
            arrivals.put((int(arrived), int(number)))

    threading.Thread(target=read, name="arrivals", daemon=True).start()
    return arrivals


def _arrival(handler: Program, arrivals: "queue.SimpleQueue[tuple[int, int]]", number: int) -> int:
    deadline = time.monotonic() + _PATIENCE_S
    while time.monotonic() < deadline:
        try:
            arrived, found = arrivals.get(timeout=1.0)
        except queue.Empty:
            handler.require()
            continue
        if found == number:
            return arrived
    raise BenchFailed(f"Debezium's handler was not called for {_PATIENCE_S:.0f} s:\n{handler.tail()}")
