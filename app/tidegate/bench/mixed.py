"""Mixed: live changes while a large table is being backfilled.

Load: a table with texts of 1 to 3 sentences is published and `tidegate run` backfills it. After a while to settle, its
rate is taken alone for a quarter of the time, then with live changes for half of it, then alone again for a quarter.
The backfill has to go on all the time: its end is not waited for. Live changes are single-row updates, each with a new
text of 1 or 2 sentences, 20 a second on a schedule that does not wait for the index, of rows that the backfill has not
come to.

A sample of freshness begins when the server has confirmed the UPDATE, and ends when the row's new chunk was read from
the product's table, asked for every 4 ms for all changes on their way at once; the figures hold this wait. Every 20th
text is then searched for by `tidegate.search` (strict, a reader's rights) with its own embedding, made before; it has
to be the nearest.

The floor, in the sense of what is compared with, is the backfill alone, of the same run, around the mixed part.
"""

import threading
import time
from collections.abc import Callable, Mapping
from dataclasses import dataclass, field

from tidegate.bench import catalogue, floor
from tidegate.bench.database import database, facts, server
from tidegate.bench.process import Program, tidegate_run
from tidegate.bench.progress import steps
from tidegate.bench.report import BenchFailed, Goal, Report, percentiles
from tidegate.bench.texts import Text, Texts
from tidegate.database import Connection, connect
from tidegate.index.embedding.embedder import Vectors
from tidegate.index.embedding.registry import Embedders
from tidegate.settings import Settings

LOOK_S = 0.004
SEARCHED_EVERY = 20
_CHANGED_ROWS = 1000
_PATIENCE_S = 60.0
_ARRIVED = (
    "SELECT n.id FROM unnest(%s::bigint[], %s::text[]) AS n (id, content) "
    "WHERE EXISTS (SELECT FROM rag_bench.product c WHERE c.id = n.id AND c.content = n.content)"
)
_DONE = "SELECT count(*) FROM rag_bench.product WHERE id <= %s"

P99_LIMIT_MS = 200.0
RATE_LIMIT = 0.6


@dataclass(slots=True)
class _Live:
    """The live changes: texts by number of the change, and how long each took to be there, ms."""

    dsn: str
    texts: list[Text]
    first: int
    per_s: float
    took: list[float] = field(default_factory=list)
    waiting: dict[int, tuple[int, str]] = field(default_factory=dict)
    found: list[int] = field(default_factory=list)
    lock: threading.Lock = field(default_factory=threading.Lock)
    done: threading.Event = field(default_factory=threading.Event)
    failure: Exception | None = None

    def run(self, running: Program) -> None:
        """Makes all changes and waits until each is there."""
        looker = threading.Thread(target=self._look, name="looker")
        looker.start()
        try:
            began = time.monotonic()
            with connect(self.dsn) as connection:
                for place, text in enumerate(self.texts):
                    time.sleep(max(0.0, began + place / self.per_s - time.monotonic()))
                    number = self.first + place % _CHANGED_ROWS
                    with self.lock:
                        committed = floor.update(connection, number, text)
                        self.waiting[place] = (committed, text.document)
                    running.require()
                    if self.failure:
                        raise self.failure
            deadline = time.monotonic() + _PATIENCE_S
            while self.waiting and not self.failure:
                if time.monotonic() > deadline:
                    raise BenchFailed(f"{len(self.waiting)} changes are not in the index:\n{running.tail()}")
                time.sleep(0.05)
        finally:
            self.done.set()
            looker.join()
        if self.failure:
            raise self.failure

    def _look(self) -> None:
        try:
            with connect(self.dsn) as connection:
                while not self.done.wait(LOOK_S):
                    with self.lock:
                        waiting = dict(self.waiting)
                    if not waiting:
                        continue
                    numbers = {self.first + place % _CHANGED_ROWS: place for place in waiting}
                    contents = [waiting[place][1] for place in numbers.values()]
                    there = connection.execute(_ARRIVED, [list(numbers), contents]).fetchall()
                    now = time.monotonic_ns()
                    with self.lock:
                        for (number,) in there:
                            place = numbers[number]
                            self.took.append((now - self.waiting.pop(place)[0]) / 1e6)
                            self.found.append(place)
        except Exception as error:
            self.failure = error


@dataclass(frozen=True, slots=True)
class Mixed:
    """What is to be measured.

    Attributes:
        rows: of the table that is backfilled.
        seconds: of the whole measurement, half of it mixed.
        per_s: live changes a second.
        dsn: the user's server; None: a temporary embedded one.
    """

    rows: int = 100_000
    seconds: float = 240.0
    per_s: float = 20.0
    settle_s: float = 15.0
    seed: int = 1
    dsn: str | None = None

    def run(self) -> Report:
        """Measures.

        Raises:
            BenchFailed: `tidegate run` ended, the backfill ended too early, or a change did not come to the index.
        """
        embedders = Embedders(Settings())
        made, live = Texts(self.seed, (1, 3)), Texts(self.seed + 1, (1, 2))
        quarter = self.seconds / 4
        with steps() as shown, server(self.dsn) as server_dsn, database(server_dsn, "mixed") as dsn:
            shown.step("the table")
            with connect(dsn) as connection:
                catalogue.create_table(connection, [made.next() for _ in range(self.rows)], self.seed)
                catalogue.publish(connection, embedders)
                server_facts = facts(connection)
            texts = [live.next() for _ in range(max(1, round(2 * quarter * self.per_s)))]
            vectors = embedders.of(catalogue.MODEL).embed_bulk([text.document for text in texts[::SEARCHED_EVERY]])
            with connect(dsn) as connection, catalogue.Reader(dsn) as reader, tidegate_run(dsn) as running:
                shown.step("backfill begins")
                self._settle(connection, running)
                shown.step("backfill alone")
                before = self._rate(connection, running, lambda: time.sleep(quarter))
                shown.step("with live changes", len(texts))
                changes = _Live(dsn, texts, self.rows - _CHANGED_ROWS + 1, self.per_s)
                mixed = self._rate(connection, running, lambda: changes.run(running))
                self._search(reader, changes, vectors)
                shown.step("backfill alone again")
                after = self._rate(connection, running, lambda: time.sleep(quarter))
        alone = (before + after) / 2
        config = {
            "rows": self.rows, "seconds": self.seconds, "per_s": self.per_s, "seed": self.seed,
            "server": "embedded" if self.dsn is None else "own", **server_facts,
        }  # fmt: skip
        return _report(config, changes.took, mixed, alone, (before, after))

    def _settle(self, connection: Connection, running: Program) -> None:
        deadline = time.monotonic() + 2 * _PATIENCE_S
        while not self._rows(connection):
            running.require()
            if time.monotonic() > deadline:
                raise BenchFailed(f"the backfill does not begin:\n{running.tail()}")
            time.sleep(0.2)
        time.sleep(self.settle_s)

    def _rate(self, connection: Connection, running: Program, part: Callable[[], None]) -> float:
        """Backfilled rows a second while `part` runs."""
        rows, began = self._rows(connection), time.monotonic()
        part()
        running.require()
        now, took = self._rows(connection), time.monotonic() - began
        if now >= self.rows - _CHANGED_ROWS:
            raise BenchFailed(f"the backfill ended before the measurement did: more than {self.rows} rows are needed")
        return (now - rows) / took

    def _rows(self, connection: Connection) -> int:
        row = connection.execute(_DONE, [self.rows - _CHANGED_ROWS]).fetchone()
        assert row is not None
        return int(row[0])

    def _search(self, reader: catalogue.Reader, changes: _Live, vectors: Vectors) -> None:
        """Searches for the last text of each row of the sample."""
        last = {place % _CHANGED_ROWS: place for place in range(len(changes.texts))}
        for sample, vector in enumerate(vectors):
            place = sample * SEARCHED_EVERY
            if last[place % _CHANGED_ROWS] != place:
                continue
            expected = ({"id": changes.first + place % _CHANGED_ROWS}, changes.texts[place].document)
            if reader.search(vector) != [expected]:
                raise BenchFailed(f"a search does not find change {place}")


def _report(
    config: Mapping[str, object], took: list[float], mixed: float, alone: float, parts: tuple[float, float]
) -> Report:
    figures = percentiles(took)
    ratio = round(mixed / alone, 3)
    return Report(
        bench="mixed",
        config=config,
        results={**figures, "live_changes": len(took), "rows_per_s": round(mixed, 1)},
        floor={"rows_per_s": round(alone, 1), "before_rows_per_s": round(parts[0], 1),
               "after_rows_per_s": round(parts[1], 1)},
        ratios={"rows_per_s": ratio},
        goals=[
            Goal("p99 of live changes, ms", figures["p99_ms"], P99_LIMIT_MS),
            Goal("backfill mixed / alone", ratio, RATE_LIMIT, at_least=True),
        ],
    )  # fmt: skip
