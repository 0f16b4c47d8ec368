"""Workers killed, started and paused at random, broker and Connect restarted, under load: index = f(source).

A short version by default; TIDEGATE_CHAOS_CHANGES=20000 TIDEGATE_CHAOS_KEYS=2000 is the full one.
"""

import contextlib
import os
import random
import signal
import threading
import time
from pathlib import Path

import psycopg
import pytest

from tests.conftest import SLOW
from tests.histories.program import Program
from tests.integration.test_kill import publish, same_index
from tests.kafka.cluster import Cluster
from tests.kafka.conftest import KafkaTide
from tidegate.database import connect

CHANGES = int(os.environ.get("TIDEGATE_CHAOS_CHANGES", "1500"))
KEYS = int(os.environ.get("TIDEGATE_CHAOS_KEYS", "200"))
PAUSE_S = float(os.environ.get("TIDEGATE_CHAOS_PAUSE_S", "0.12"))
WORKERS, PARTITIONS = 3, 6


class Load(threading.Thread):
    """So many mixed changes on so many keys of two tables; each row says which of its changes it shows."""

    def __init__(self, dsn: str, seed: int):
        super().__init__(daemon=True)
        self._dsn, self._random = dsn, random.Random(seed)
        self.changes = 0
        self.failure: BaseException | None = None

    def run(self) -> None:
        try:
            with connect(self._dsn) as connection:
                while self.changes < CHANGES:
                    with contextlib.suppress(psycopg.errors.UniqueViolation):
                        self._change(connection)
                    self.changes += 1
                    if self.changes % 10 == 0:
                        time.sleep(PAUSE_S)
        except BaseException as error:
            self.failure = error

    def _change(self, connection: psycopg.Connection) -> None:
        pick = self._random
        table, carried = pick.choice([("team.note", "region"), ("team.item", "rank")])
        row, turn = pick.randrange(KEYS // 2), self.changes
        match pick.randrange(10):
            case 0 | 1:
                connection.execute(
                    f"INSERT INTO {table} (id, title) VALUES (%s, %s) ON CONFLICT DO NOTHING", [row, f"new {turn}"]
                )
            case 2 | 3:
                connection.execute(f"UPDATE {table} SET title = %s WHERE id = %s", [f"changed {turn}", row])
            case 4 | 5 | 6:
                value = str(turn) if carried == "region" else turn
                connection.execute(f"UPDATE {table} SET {carried} = %s WHERE id = %s", [value, row])
            case 7:
                connection.execute(f"DELETE FROM {table} WHERE id = %s", [row])
            case 8:
                connection.execute(f"UPDATE {table} SET id = %s WHERE id = %s", [pick.randrange(KEYS // 2), row])
            case _:
                with connection.transaction():
                    connection.execute(f"DELETE FROM {table} WHERE id = %s", [row])
                    connection.execute(f"INSERT INTO {table} (id, title) VALUES (%s, %s)", [row, f"again {turn}"])


class Watch(threading.Thread):
    """Order a key: no row of the index ever shows an older change after a newer one, and none before its ledger."""

    def __init__(self, dsn: str):
        super().__init__(daemon=True)
        self._dsn, self._done = dsn, threading.Event()
        self.looks = 0
        self.backwards: list[object] = []

    def run(self) -> None:
        seen: dict[tuple[str, int], str] = {}
        with connect(self._dsn) as connection:
            while not self._done.wait(0.05):
                for table in ("note", "item"):
                    rows = connection.execute(f"SELECT id, position::text, position FROM rag_team.{table}").fetchall()
                    for row, text, _ in rows:
                        before = seen.get((table, row))
                        if before is not None and _order(text) < _order(before):
                            self.backwards.append((table, row, before, text))
                        seen[(table, row)] = text
                self.looks += 1

    def stop(self) -> None:
        self._done.set()
        if self.ident is not None:
            self.join(60)


def _order(position: str) -> tuple[int, ...]:
    parts = position.strip("{}").split(",")
    return tuple((int(high, 16) << 32) + int(low, 16) for high, low in (part.split("/") for part in parts))


@pytest.mark.timeout(1200 + CHANGES // 10)
def test_whatever_is_killed_nothing_is_lost_and_nothing_stays(tide: KafkaTide, kafka: Cluster, tmp_path: Path) -> None:
    seed = int(os.environ.get("TIDEGATE_SEED", time.time_ns() % 10**6))
    print(f"TIDEGATE_SEED={seed}")
    pick = random.Random(seed)
    tide.settings.kafka.partitions = PARTITIONS
    publish(tide.dsn, tide.embedders)
    tide.connectors().apply(60)
    load, watch = Load(tide.dsn, seed), Watch(tide.dsn)
    started: list[Program] = []

    def start() -> Program:
        environment = {**kafka.env, "TIDEGATE_KAFKA__PARTITIONS": str(PARTITIONS)}
        started.append(Program(tide.dsn, environment, tmp_path / "log", "tidegate.cli", "worker"))
        return started[-1]

    workers = [start() for _ in range(WORKERS)]
    deeds = {"killed": 0, "paused": 0, "started": WORKERS}
    try:
        caught_up(tide, workers, 90)
        watch.start()
        load.start()
        restarts = {"broker": CHANGES // 3, "connect": 2 * CHANGES // 3}
        while load.is_alive() or restarts:
            if load.changes >= restarts.get("broker", CHANGES + 1):
                del restarts["broker"]
                kafka.restart_broker(signal.SIGKILL if pick.random() < 0.5 else signal.SIGTERM)
            if load.changes >= restarts.get("connect", CHANGES + 1):
                del restarts["connect"]
                kafka.restart_connect(signal.SIGKILL if pick.random() < 0.5 else signal.SIGTERM)
            place = pick.randrange(WORKERS)
            if pick.random() < 0.6:
                workers[place].kill()
                deeds["killed"] += 1
                load.join(pick.uniform(0, 2))
                workers[place] = start()
                deeds["started"] += 1
            else:
                deeds["paused"] += 1
                with workers[place].paused():
                    # Beyond ten seconds its membership is lost, and it finds its partitions with others.
                    load.join(pick.choice([1, 3, 13]))
            load.join(pick.uniform(0.5, 4))
        assert load.failure is None, load.failure
        assert not restarts
        caught_up(tide, workers, 120)
        watch.stop()
        print(f"{load.changes} changes, {deeds}, {watch.looks} looks")
        assert watch.backwards == []
        same_index(tide.dsn)
        for worker in workers:
            worker.process.send_signal(signal.SIGTERM)
        assert [worker.process.wait(200) for worker in workers] == [0] * WORKERS, workers[0].log()
    finally:
        watch.stop()
        for worker in started:
            worker.kill()


def caught_up(tide: KafkaTide, workers: list[Program], timeout: float) -> None:
    deadline = time.monotonic() + timeout * SLOW
    while True:
        for worker in workers:
            worker.require()
        states = tide.rows("SELECT DISTINCT state FROM tidegate.product")
        if tide.one("SELECT tidegate.wait_for(pg_current_wal_insert_lsn(), '1s')") and states == [("live",)]:
            return
        assert time.monotonic() < deadline, how_it_is(tide, states, workers)


def how_it_is(tide: KafkaTide, states: object, workers: list[Program]) -> str:
    """What stands still, for the message of a failure."""
    facts = [
        ("states", states),
        ("watermarks", tide.rows("SELECT source, partition, lsn::text, as_of, updated_at FROM tidegate.watermark")),
        ("now", tide.rows("SELECT pg_current_wal_insert_lsn()::text, clock_timestamp()")),
        ("connectors", tide.connectors().states()),
        ("partitions", tide.rows("SELECT * FROM tidegate.stream_partition")),
        ("workers", tide.rows("SELECT * FROM tidegate.worker")),
        ("slots", tide.rows("SELECT slot_name, active, confirmed_flush_lsn::text FROM pg_replication_slots")),
        ("log", workers[0].log()),
    ]
    return "\n".join(f"{name}: {fact}" for name, fact in facts)
