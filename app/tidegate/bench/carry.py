"""Changes that need no embedding, through the embedded engine and its worker into the index.

Load: one update of every row, in random order, of a column that is carried beside the chunks; no row comes twice in a
round, so that none stands for another. In each round `tidegate run` is stopped with SIGSTOP, the changes are
committed, 100 a transaction, and wait in the WAL; then it goes on. Measured is from that moment until everything that
was committed is in the index (`tidegate.lane_watermark`), and the chunks are looked at: all must have the new value.

Floor, of the same run, half of the rounds before and half after: the raw Debezium handler (bench/handler.py), its own
process with the same engine settings, which decodes each event and writes a line; stopped, and let go on, likewise.
"""

import random
import signal
import sys
import threading
import time
from collections.abc import Callable
from dataclasses import dataclass

from tidegate.bench import catalogue
from tidegate.bench.database import database, facts, server
from tidegate.bench.process import Program, program, tidegate_run, wait_until_live
from tidegate.bench.progress import steps
from tidegate.bench.report import BenchFailed, Goal, Report
from tidegate.bench.texts import Texts
from tidegate.capture.slot import default_slot, ensure_slot
from tidegate.database import Connection, connect
from tidegate.index.embedding.registry import Embedders
from tidegate.settings import Settings

SENTENCES = (1, 1)
GOAL_PER_S, GOAL_SHARE = 3000.0, 0.5
_BATCH = 100
_PATIENCE_S = 120.0
_UPDATE = "UPDATE bench.product SET price = %s WHERE id = ANY (%s)"
_REACHED = "SELECT lsn >= %s::pg_lsn FROM tidegate.lane_watermark WHERE lane = %s AND source = ''"
_LEFT = "SELECT count(*) FROM rag_bench.product WHERE price <> %s"


@dataclass(frozen=True, slots=True)
class Carry:
    """What is to be measured.

    Attributes:
        rows: rows of the product, embedded before; each is changed once a round.
        rounds: of the pipeline, and of the handler.
        dsn: the user's server; None: a temporary embedded one.
    """

    rows: int = 6000
    rounds: int = 4
    seed: int = 1
    dsn: str | None = None

    def run(self) -> Report:
        """Measures.

        Raises:
            BenchFailed: a program ended, the changes did not come in two minutes, or some were not written.
        """
        made = Texts(self.seed, SENTENCES)
        existing = [made.next() for _ in range(self.rows)]
        before = self.rounds - self.rounds // 2
        with (
            steps() as shown,
            server(self.dsn) as server_dsn,
            database(server_dsn, "floor") as floor_dsn,
            database(server_dsn, "carry") as dsn,
        ):
            for each in (floor_dsn, dsn):
                with connect(each) as connection:
                    catalogue.create_table(connection, existing, self.seed)
                    catalogue.publish(connection, Embedders(Settings()))
                    server_facts = facts(connection)
            shown.step("raw handler, first half")
            handler = self._handler(floor_dsn, range(before))
            with tidegate_run(dsn) as running, connect(dsn) as connection:
                shown.step("first rows")
                wait_until_live(connection, running, catalogue.PRODUCT, lambda _: None)
                shown.step(f"{self.rounds} x {self.rows} changes")
                carried = [self._round(connection, running, number) for number in range(self.rounds)]
            shown.step("raw handler, second half")
            handler += self._handler(floor_dsn, range(before, self.rounds))
        rate, raw = (self.rows * len(took) / sum(took) for took in (carried, handler))
        limit = min(GOAL_PER_S, GOAL_SHARE * raw)
        return Report(
            bench="carry",
            config={
                "rows": self.rows, "rounds": self.rounds, "seed": self.seed,
                "server": "embedded" if self.dsn is None else "own", **server_facts,
            },
            results={"rows_per_s": round(rate, 1), "slowest_round_rows_per_s": round(self.rows / max(carried), 1)},
            floor={"rows_per_s": round(raw, 1), "slowest_round_rows_per_s": round(self.rows / max(handler), 1)},
            ratios={"rows_per_s": round(rate / raw, 3)},
            goals=[Goal("rows/s", round(rate, 1), round(limit, 1), at_least=True)],
        )  # fmt: skip

    def _round(self, connection: Connection, running: Program, number: int) -> float:
        """Seconds from the moment at which the run goes on until all changes are in the index."""
        price = number + 1000

        def reached(position: str) -> bool:
            return connection.execute(_REACHED, [position, catalogue.MODEL]).fetchone() == (True,)

        position = self._held_up(connection, running, price)
        began = time.monotonic()
        running.process.send_signal(signal.SIGCONT)
        _await(running, lambda: reached(position))
        took = time.monotonic() - began
        left = connection.execute(_LEFT, [price]).fetchone()
        if left != (0,):
            raise BenchFailed(f"{left and left[0]} rows do not have the value that was written last")
        return took

    def _handler(self, dsn: str, numbers: range) -> list[float]:
        """The same of the raw handler: until it was given every change."""
        if not numbers:
            return []
        with connect(dsn) as connection:
            ensure_slot(connection, default_slot(connection.info.dbname))
            with program([sys.executable, "-m", "tidegate.bench.handler"], dsn) as running:
                seen = _Lines(running)
                connection.execute(_UPDATE, [1, [1]])
                _await(running, lambda: seen.count >= 1)
                took = []
                for number in numbers:
                    wanted = seen.count + self.rows
                    self._held_up(connection, running, number + 1000)
                    began = time.monotonic()
                    running.process.send_signal(signal.SIGCONT)
                    _await(running, lambda wanted=wanted: seen.count >= wanted)  # type: ignore[misc]
                    took.append(time.monotonic() - began)
        return took

    def _held_up(self, connection: Connection, running: Program, price: float) -> str:
        """Stops the program and changes every row; where the changes end."""
        running.process.send_signal(signal.SIGSTOP)
        ids = list(range(1, self.rows + 1))
        random.Random(price).shuffle(ids)
        for start in range(0, len(ids), _BATCH):
            connection.execute(_UPDATE, [price, ids[start : start + _BATCH]])
        row = connection.execute("SELECT pg_current_wal_insert_lsn()::text").fetchone()
        assert row is not None
        return str(row[0])


class _Lines:
    """Counts the lines that a program writes."""

    def __init__(self, running: Program):
        self.count = 0
        self._running = running
        threading.Thread(target=self._read, name="lines", daemon=True).start()

    def _read(self) -> None:
        assert self._running.process.stdout is not None
        for _ in self._running.process.stdout:
            self.count += 1


def _await(running: Program, done: Callable[[], bool]) -> None:
    deadline = time.monotonic() + _PATIENCE_S
    while not done():
        running.require()
        if time.monotonic() > deadline:
            raise BenchFailed(f"the changes did not come in {_PATIENCE_S:.0f} s:\n{running.tail()}")
        time.sleep(0.01)
