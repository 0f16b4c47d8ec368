"""Throughput: changes that need no embedding, through Kafka into the index, by 1, 2 and 4 workers.

Load: updates of a column that is carried beside the chunks, a row a change, rows in random order. Each part is the
same number of changes: the workers (`tidegate worker`, as users run it) are stopped with SIGSTOP, the changes are
committed and wait in Kafka, and the workers go on. Measured is from that moment until everything that was committed
is in the index (`tidegate.lane_watermark`). The newest change of a row that waits stands for its older ones, as
always; `rows_written` says how many were left to write.

Floor, on the same topic: a raw kafka-python consumer in one process that decodes each event's JSON and does nothing
with it.

Everything shares the machine's cores: Postgres, broker, Connect, workers. `cores_busy` are the cores that were busy
in all, and `python_cores` those of the workers; what is left is Postgres and the JVMs.
"""

import random
import signal
import time
from contextlib import ExitStack
from dataclasses import dataclass
from typing import Any

import psutil

from tidegate.bench import catalogue
from tidegate.bench.database import database, facts, server
from tidegate.bench.kafka import bench_settings, connected, raw_rate, tidegate_worker
from tidegate.bench.process import Program, wait_until_live
from tidegate.bench.progress import Steps, steps
from tidegate.bench.report import BenchFailed, Goal, Report
from tidegate.bench.texts import Texts
from tidegate.database import Connection, connect
from tidegate.index.embedding.registry import Embedders
from tidegate.settings import Settings

SENTENCES = (1, 2)
_PATIENCE_S = 300.0
_BATCH = 100
_CAUGHT_UP = "SELECT lsn >= %s FROM tidegate.lane_watermark WHERE lane = %s AND source = ''"
_WRITTEN = "SELECT count(*) FROM tidegate.ledger WHERE written_at >= %s"
GOAL_GROWTH = 1.0


@dataclass(frozen=True, slots=True)
class Throughput:
    """What is to be measured.

    Attributes:
        changes: of each part.
        rows: rows of the product, which are embedded before.
        workers: how many, a part each.
        dsn: the user's server; None: a temporary embedded one.
    """

    changes: int = 20_000
    rows: int = 2_000
    workers: tuple[int, ...] = (1, 2, 4)
    seed: int = 1
    dsn: str | None = None

    def run(self) -> Report:
        """Measures.

        Raises:
            BenchFailed: a program ended, or the index did not catch up in five minutes.
        """
        settings = bench_settings()
        made = Texts(self.seed, SENTENCES)
        results: dict[str, Any] = {}
        with steps() as shown, server(self.dsn) as server_dsn, database(server_dsn, "throughput") as dsn:
            with connect(dsn) as connection:
                catalogue.create_table(connection, [made.next() for _ in range(self.rows)], self.seed)
                catalogue.publish(connection, Embedders(Settings()))
                server_facts = facts(connection)
            with connect(dsn) as connection, connected(dsn, settings) as source, ExitStack() as running:
                programs: list[Program] = []
                for count in sorted(self.workers):
                    while len(programs) < count:
                        programs.append(running.enter_context(tidegate_worker(dsn, settings, patient=True)))
                    if count == min(self.workers):
                        shown.step("first rows")
                        wait_until_live(connection, programs[0], catalogue.PRODUCT, lambda _: None)
                    self._part(connection, programs, results, shown)
                shown.step("raw consumer")
                floor = raw_rate(settings, source)
        most, least = max(self.workers), min(self.workers)
        config = {
            "changes": self.changes, "rows": self.rows, "partitions": settings.kafka.partitions, "seed": self.seed,
            "server": "embedded" if self.dsn is None else "own", **server_facts,
        }  # fmt: skip
        one = results[f"workers_{least}_changes_per_s"]
        growth = max(results[f"workers_{count}_changes_per_s"] for count in self.workers if count > least) / one \
            if most > least else 1.0  # fmt: skip
        return Report(
            bench="throughput",
            config=config,
            results=results,
            floor={"changes_per_s": floor},
            ratios={"changes_per_s": round(one / floor, 3), "growth": round(growth, 3)},
            goals=[Goal("most / one worker", round(growth, 3), GOAL_GROWTH, at_least=True)],
        )

    def _part(self, connection: Connection, programs: list[Program], results: dict[str, Any], shown: Steps) -> None:
        count = len(programs)
        shown.step(f"{count} workers: join")
        _await_shares(connection, count)
        _await(connection, programs)
        shown.step(f"{count} workers: {self.changes} changes")
        for program in programs:
            program.process.send_signal(signal.SIGSTOP)
        try:
            self._change(connection, count)
            lsn = _position(connection)
            _await_kafka(connection, lsn)
        finally:
            moment = _now(connection)
            processes = [psutil.Process(program.process.pid) for program in programs]
            cpu, used = psutil.cpu_times(), [process.cpu_times() for process in processes]
            began = time.monotonic()
            for program in programs:
                program.process.send_signal(signal.SIGCONT)
        _await(connection, programs, lsn)
        took = time.monotonic() - began
        spent = [sum(process.cpu_times()[:2]) for process in processes]
        written = connection.execute(_WRITTEN, [moment]).fetchone()
        assert written is not None
        results |= {
            f"workers_{count}_changes_per_s": round(self.changes / took, 1),
            f"workers_{count}_rows_written": written[0],
            f"workers_{count}_cores_busy": round(_busy(psutil.cpu_times(), cpu) / took, 2),
            f"workers_{count}_python_cores": round((sum(spent) - sum(sum(u[:2]) for u in used)) / took, 2),
        }

    def _change(self, connection: Connection, seed: int) -> None:
        pick = random.Random(self.seed * 100 + seed)
        numbers = [pick.randint(1, self.rows) for _ in range(self.changes)]
        statement = "UPDATE bench.product SET price = price + 0.01 WHERE id = %s"
        for start in range(0, len(numbers), _BATCH):
            with connection.transaction(), connection.cursor() as cursor:
                cursor.executemany(statement, [(number,) for number in numbers[start : start + _BATCH]])


def _position(connection: Connection) -> str:
    row = connection.execute("SELECT pg_current_wal_insert_lsn()::text").fetchone()
    assert row is not None
    return str(row[0])


def _now(connection: Connection) -> Any:
    row = connection.execute("SELECT clock_timestamp()").fetchone()
    assert row is not None
    return row[0]


def _await(connection: Connection, programs: list[Program], lsn: str | None = None) -> None:
    """Waits until everything up to the position (default: now) is in the index."""
    lsn = lsn or _position(connection)
    deadline = time.monotonic() + _PATIENCE_S
    while connection.execute(_CAUGHT_UP, [lsn, catalogue.MODEL]).fetchone() != (True,):
        for program in programs:
            program.require()
        if time.monotonic() > deadline:
            raise BenchFailed(f"the index did not catch up in {_PATIENCE_S:.0f} s:\n{programs[0].tail()}")
        time.sleep(0.01)


def _await_kafka(connection: Connection, lsn: str) -> None:
    """Waits until Connect has confirmed to the slot what it has written to Kafka: everything up to the position."""
    deadline = time.monotonic() + _PATIENCE_S
    statement = "SELECT confirmed_flush_lsn >= %s::pg_lsn FROM pg_replication_slots WHERE database = current_database()"
    while connection.execute(statement, [lsn]).fetchone() != (True,):
        if time.monotonic() > deadline:
            raise BenchFailed("Kafka Connect did not write the changes to Kafka")
        time.sleep(0.05)


def _await_shares(connection: Connection, count: int) -> None:
    """Waits until each worker has a partition."""
    deadline = time.monotonic() + _PATIENCE_S
    statement = (
        "SELECT count(DISTINCT worker) FROM tidegate.stream_partition "
        "WHERE updated_at > clock_timestamp() - interval '3 s'"
    )
    while connection.execute(statement).fetchone() != (count,):
        if time.monotonic() > deadline:
            raise BenchFailed(f"{count} workers did not share the partitions")
        time.sleep(0.1)


def _busy(after: Any, before: Any) -> float:
    idle = (after.idle - before.idle) + (getattr(after, "iowait", 0) - getattr(before, "iowait", 0))
    return float(sum(after[:8]) - sum(before[:8]) - idle)
