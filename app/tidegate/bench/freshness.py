"""Freshness: from the commit of a changed row to a search that finds its new text.

Load: single-row updates on an idle system, each with a new text (so that it has to be embedded), each after
the one before was found, and after a pause of 20 to 60 ms. `tidegate run` runs as users run it.

A sample begins when the server has confirmed the UPDATE. It ends when a call of `tidegate.search` (strict, with a
reader's rights, by the new text's own embedding, which was made before) has returned the new text as the
nearest. `searchable_…` are the same samples up to the moment at which that search began: from then on the change
was there for who asks; what lies between is the time that a search takes.

Calling `tidegate.search` without a pause would take a core from what is measured. So the row's chunk is looked
for by its key every millisecond, from 8 ms after the commit on, and once it is there the search is made; a
search that then does not find it is made again. The figures hold this wait, on average half a millisecond.

Floor, of the same run, half of it directly before the pipeline's samples and half directly after them: commit
→ raw Debezium handler (its own process, the same engine settings, a handler that only notes the time), the
raw embedding of such a text, and one bare commit of a row of the chunk table's form. The parts of a floor's
sample follow each other with nothing else running, with the same pause before the next. `p50_ms` of the floor
is the sum of the medians of the three.

Through Kafka (`--via kafka`) the pipeline is Debezium on Kafka Connect, Kafka and `tidegate worker`, connected by
`tidegate connect apply`; the floor's first part is commit → the same connector → a raw kafka-python consumer. In the
same run, after it, the embedded engine takes as many samples of such texts on a database of its own: `embedded_…`.

The first samples of each part are not counted (`warm_up`): a JVM that has just started is slower.
"""

import contextlib
import random
import time
from collections.abc import Callable, Iterator, Mapping
from dataclasses import dataclass, replace
from typing import Literal

from tidegate.bench import catalogue, floor
from tidegate.bench.database import database, facts, server
from tidegate.bench.kafka import bench_settings, connected, tidegate_worker
from tidegate.bench.process import Program, tidegate_run, wait_until_live
from tidegate.bench.progress import Steps, steps
from tidegate.bench.report import BenchFailed, Goal, Report, percentiles
from tidegate.bench.texts import Text, Texts
from tidegate.database import Connection, connect
from tidegate.index.embedding.embedder import Vectors
from tidegate.index.embedding.registry import Embedders
from tidegate.settings import Settings

SENTENCES = (1, 2)
PAUSE_S = (0.020, 0.060)
FIRST_LOOK_S = 0.008
LOOK_S = 0.001
_PATIENCE_S = 30.0
_LOOK = "SELECT EXISTS (SELECT FROM rag_bench.product WHERE id = %s AND content = %s)"

P50_LIMIT = 1.5
P99_LIMIT_MS = {"embedded": 200.0, "kafka": 150.0}


@dataclass(frozen=True, slots=True)
class Freshness:
    """What is to be measured.

    Attributes:
        samples: updates that are counted.
        rows: rows of the product.
        warm_up: updates before each part that are not counted.
        dsn: the user's server; None: a temporary embedded one.
        via: how changes come; Kafka and Kafka Connect are those of the settings.
    """

    samples: int = 500
    rows: int = 1000
    warm_up: int = 50
    seed: int = 1
    dsn: str | None = None
    via: Literal["embedded", "kafka"] = "embedded"

    def run(self) -> Report:
        """Measures. Takes about 0.15 s a sample, and half a minute; through Kafka a half more.

        Raises:
            BenchFailed: a program ended, or an update was not found within 30 s.
        """
        embedders = Embedders(Settings())
        made = Texts(self.seed, SENTENCES)
        existing = [made.next() for _ in range(self.rows)]
        before, after = self.samples - self.samples // 2, self.samples // 2
        measured_floor = floor.Floor()
        random_pause = random.Random(self.seed)
        kafka = bench_settings() if self.via == "kafka" else None

        def pause() -> None:
            time.sleep(random_pause.uniform(*PAUSE_S))

        def measure_floor(dsn: str, samples: int, move: Callable[[int | None], None]) -> None:
            texts = [made.next() for _ in range(self.warm_up + samples)]
            floor.measure(
                dsn, texts, embedders.of(catalogue.MODEL), measured_floor,
                warm_up=self.warm_up, rows=self.rows, pause=pause, tick=lambda: move(None), kafka=kafka,
            )  # fmt: skip

        with (
            steps() as shown,
            server(self.dsn) as server_dsn,
            database(server_dsn, "floor") as floor_dsn,
            database(server_dsn, "freshness") as dsn,
            contextlib.ExitStack() as stack,
        ):
            beside = [] if kafka is None else [stack.enter_context(database(server_dsn, "embedded"))]
            for each in (floor_dsn, dsn, *beside):
                with connect(each) as connection:
                    catalogue.create_table(connection, existing, self.seed)
                    catalogue.publish(connection, embedders)
                    server_facts = facts(connection)
            measure_floor(floor_dsn, before, shown.step("floor, first half", self.warm_up + before))

            def measure(dsn: str, kafka: Settings | None) -> tuple[list[float], list[float]]:
                texts = [made.next() for _ in range(self.warm_up + self.samples)]
                vectors = embedders.of(catalogue.MODEL).embed_bulk([text.document for text in texts])
                return self._measure(dsn, texts, vectors, pause, shown, kafka)

            searchable, found = measure(dsn, kafka)
            measure_floor(floor_dsn, after, shown.step("floor, second half", self.warm_up + after))
            embedded = [measure(each, None)[1] for each in beside]
        config = {
            "samples": self.samples, "rows": self.rows, "warm_up": self.warm_up, "seed": self.seed,
            "via": self.via, "consistency": "strict", "server": "embedded" if self.dsn is None else "own",
            **server_facts,
        }  # fmt: skip
        report = _report(config, searchable, found, measured_floor, P99_LIMIT_MS[self.via])
        return _beside(report, *embedded) if embedded else report

    def _measure(
        self,
        dsn: str,
        texts: list[Text],
        vectors: Vectors,
        pause: Callable[[], None],
        shown: Steps,
        kafka: Settings | None,
    ) -> tuple[list[float], list[float]]:
        """Milliseconds from commit to searchable, and to found."""
        numbers = random.Random(self.seed)
        searchable, found = [], []
        with connect(dsn) as connection, catalogue.Reader(dsn) as reader, _pipeline(dsn, kafka) as running:
            shown.step("the pipeline: first rows")
            wait_until_live(connection, running, catalogue.PRODUCT, lambda _: None)
            move = shown.step("commit to searchable", len(texts))
            for index, (text, vector) in enumerate(zip(texts, vectors, strict=True)):
                number = numbers.randint(1, self.rows)
                committed = floor.update(connection, number, text)
                _await_chunk(connection, running, (number, text.document))
                began, ended = _await_found(reader, running, vector, (number, text.document))
                if index >= self.warm_up:
                    searchable.append((began - committed) / 1e6)
                    found.append((ended - committed) / 1e6)
                move(None)
                pause()
        return searchable, found


@contextlib.contextmanager
def _pipeline(dsn: str, kafka: Settings | None) -> Iterator[Program]:
    if kafka is None:
        with tidegate_run(dsn) as running:
            yield running
    else:
        with connected(dsn, kafka), tidegate_worker(dsn, kafka) as running:
            yield running


def _await_chunk(connection: Connection, running: Program, expected: tuple[int, str]) -> None:
    """Waits until the row's new chunk is in the table."""
    deadline = time.monotonic() + _PATIENCE_S
    time.sleep(FIRST_LOOK_S)
    while connection.execute(_LOOK, expected).fetchone() != (True,):
        _require_before(deadline, running)
        time.sleep(LOOK_S)


def _await_found(
    reader: catalogue.Reader, running: Program, vector: Vectors, expected: tuple[int, str]
) -> tuple[int, int]:
    """When the search that found the text began and ended, monotonic ns."""
    number, document = expected
    deadline = time.monotonic() + _PATIENCE_S
    while True:
        began = time.monotonic_ns()
        hits = reader.search(vector)
        ended = time.monotonic_ns()
        if hits == [({"id": number}, document)]:
            return began, ended
        _require_before(deadline, running)


def _require_before(deadline: float, running: Program) -> None:
    running.require()
    if time.monotonic() > deadline:
        raise BenchFailed(
            f"an update of {catalogue.PRODUCT} was not found within {_PATIENCE_S:.0f} s:\n{running.tail()}"
        )


def _beside(report: Report, embedded: list[float]) -> Report:
    """The report with the embedded engine's figures of the same run."""
    figures = {f"embedded_{name}": value for name, value in percentiles(embedded).items()}
    ratio = round(report.results["p50_ms"] / figures["embedded_p50_ms"], 3)
    return replace(report, results={**report.results, **figures}, ratios={**report.ratios, "p50_of_embedded": ratio})


def _report(
    config: Mapping[str, object], searchable: list[float], found: list[float], measured: floor.Floor, p99_limit: float
) -> Report:
    results = percentiles(found)
    results |= {f"searchable_{name}": value for name, value in percentiles(searchable).items()}
    ratio = round(results["p50_ms"] / measured.p50_ms, 3)
    return Report(
        bench="freshness",
        config=config,
        results=results,
        floor=measured.figures(),
        ratios={"p50": ratio, "searchable_p50": round(results["searchable_p50_ms"] / measured.p50_ms, 3)},
        goals=[Goal("p50 / floor", ratio, P50_LIMIT), Goal("p99, ms", results["p99_ms"], p99_limit)],
    )
