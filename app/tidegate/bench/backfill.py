"""Backfill: how quickly a table that was there before becomes searchable, and in how much memory.

Load: a table filled with texts of 1 to 3 sentences, published, then `tidegate run` as users run it. Rows a
second are counted from the moment the first rows are in the index (they are not counted) to the moment the
last one is. Then the product has to be live, every row to be there, and a sample of rows to be found by
`tidegate.search` with their own text.

Memory is the resident set of the process of `tidegate run`, JVM included, twice a second. Flat: its maximum in
the last third of the time is at most 1.15 times that in the second third.

Floor, of the same run: the same texts (of many, a sample of them) through `embed_bulk`, 256 a call,
with nothing else running; half of them directly before the pipeline, half directly after.
"""

import random
import time
from collections.abc import Mapping, Sequence
from dataclasses import dataclass

from tidegate.bench import catalogue
from tidegate.bench.database import database, facts, server
from tidegate.bench.process import tidegate_run, wait_until_live
from tidegate.bench.progress import Steps, steps
from tidegate.bench.report import BenchFailed, Goal, Report
from tidegate.bench.texts import Text, Texts
from tidegate.database import connect
from tidegate.index.embedding.embedder import Embedder
from tidegate.index.embedding.registry import Embedders
from tidegate.settings import Settings

SENTENCES = (1, 3)
RSS_EVERY_S = 0.5
_SLICE = 256
_CHECKED = 50
# A vector index that was being built when the program ended would go on beside the floor.
_END_OTHERS = (
    "SELECT pg_terminate_backend(pid, 5000) FROM pg_stat_activity "
    "WHERE datname = current_database() AND pid <> pg_backend_pid()"
)

RATE_LIMIT = 0.85
RSS_LIMIT_MB = 1024.0
FLAT_LIMIT = 1.15


@dataclass(slots=True)
class _Floor:
    texts: int = 0
    seconds: float = 0.0

    def measure(self, embedder: Embedder, texts: Sequence[Text]) -> None:
        embedder.embed_bulk([text.document for text in texts[:_SLICE]])  # loads the model
        began = time.monotonic()
        for start in range(0, len(texts), _SLICE):
            embedder.embed_bulk([text.document for text in texts[start : start + _SLICE]])
        self.seconds += time.monotonic() - began
        self.texts += len(texts)

    @property
    def rate(self) -> float:
        return self.texts / self.seconds


@dataclass(frozen=True, slots=True)
class _Measured:
    rate: float
    seconds: float
    rss_mb: Sequence[float]

    def flatness(self) -> float:
        """Maximum of the last third over that of the second third."""
        third = max(1, len(self.rss_mb) // 3)
        return max(self.rss_mb[-third:]) / max(self.rss_mb[third : len(self.rss_mb) - third] or self.rss_mb)


@dataclass(frozen=True, slots=True)
class Backfill:
    """What is to be measured.

    Attributes:
        rows: rows of the table.
        floor_rows: of these, how many go through the raw embedder, at most.
        dsn: the user's server; None: a temporary embedded one.
    """

    rows: int = 5000
    floor_rows: int = 4000
    seed: int = 1
    dsn: str | None = None

    def run(self) -> Report:
        """Measures. Takes about 10 s a thousand rows and as much for the floor, and a quarter of a minute.

        Raises:
            BenchFailed: `tidegate run` ended, nothing moved, or the index does not hold every row.
        """
        embedders = Embedders(Settings())
        made = Texts(self.seed, SENTENCES)
        texts = [made.next() for _ in range(self.rows)]
        sample = random.Random(self.seed).sample(texts, min(self.floor_rows, self.rows))
        measured_floor = _Floor()
        with steps() as shown, server(self.dsn) as server_dsn, database(server_dsn, "backfill") as dsn:
            with connect(dsn) as connection:
                catalogue.create_table(connection, texts, self.seed)
                catalogue.publish(connection, embedders)
                server_facts = facts(connection)
            embedder = embedders.of(catalogue.MODEL)
            shown.step("floor, first half")
            measured_floor.measure(embedder, sample[: len(sample) // 2 or 1])
            measured = self._measure(dsn, texts, embedder, shown)
            with connect(dsn) as connection:
                connection.execute(_END_OTHERS)
            shown.step("floor, second half")
            measured_floor.measure(embedder, sample[len(sample) // 2 :])
        config = {
            "rows": self.rows, "floor_rows": len(sample), "seed": self.seed,
            "server": "embedded" if self.dsn is None else "own", **server_facts,
        }  # fmt: skip
        return _report(config, measured, measured_floor)

    def _measure(self, dsn: str, texts: Sequence[Text], embedder: Embedder, shown: Steps) -> _Measured:
        import psutil

        with connect(dsn) as connection, tidegate_run(dsn) as running:
            process = psutil.Process(running.process.pid)
            move = shown.step("backfill", len(texts))
            counts: list[tuple[float, int]] = []
            rss: list[float] = []
            sampled = 0.0

            def look(rows: int) -> None:
                nonlocal sampled
                now = time.monotonic()
                if rows and (not counts or counts[-1][1] != rows):
                    counts.append((now, rows))
                    move(rows)
                if counts and now >= sampled + RSS_EVERY_S:
                    rss.append(process.memory_info().rss / 2**20)
                    sampled = now

            wait_until_live(connection, running, catalogue.PRODUCT, look)
            rss.append(process.memory_info().rss / 2**20)
            self._check(dsn, texts, embedder)
        (began, first), (ended, last) = counts[0], counts[-1]
        if last == first:
            raise BenchFailed(f"{last} rows were there at once; measure more of them with --rows")
        return _Measured((last - first) / (ended - began), ended - began, rss)

    def _check(self, dsn: str, texts: Sequence[Text], embedder: Embedder) -> None:
        """Every row is in the index, and a sample of them is found by search."""
        with connect(dsn) as connection:
            row = connection.execute("SELECT count(DISTINCT id) FROM rag_bench.product").fetchone()
            assert row is not None
            if row[0] != len(texts):
                raise BenchFailed(f"{row[0]} of {len(texts)} rows are in the index of a product that is live")
        chosen = random.Random(self.seed).sample(range(len(texts)), min(_CHECKED, len(texts)))
        with catalogue.Reader(dsn) as reader:
            for index in chosen:
                document = texts[index].document
                hits = reader.search(embedder.embed([document])[0])
                if hits != [({"id": index + 1}, document)]:
                    raise BenchFailed(f"row {index + 1} of {catalogue.PRODUCT} is not found by its own text")


def _report(config: Mapping[str, object], measured: _Measured, measured_floor: _Floor) -> Report:
    ratio = round(measured.rate / measured_floor.rate, 3)
    rss_max = round(max(measured.rss_mb), 1)
    return Report(
        bench="backfill",
        config=config,
        results={
            "rows_per_s": round(measured.rate, 1),
            "seconds": round(measured.seconds, 1),
            "rss_start_mb": round(measured.rss_mb[0], 1),
            "rss_max_mb": rss_max,
            "rss_end_mb": round(measured.rss_mb[-1], 1),
        },
        floor={"rows_per_s": round(measured_floor.rate, 1), "seconds": round(measured_floor.seconds, 1)},
        ratios={"rows_per_s": ratio},
        goals=[
            Goal("rows/s / floor", ratio, RATE_LIMIT, at_least=True),
            Goal("RSS max, MB", rss_max, RSS_LIMIT_MB),
            Goal("RSS max, last third / second third", round(measured.flatness(), 3), FLAT_LIMIT),
        ],
    )
