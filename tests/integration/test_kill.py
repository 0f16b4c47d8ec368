"""`tidegate run` killed, ended and cut off from its server under load: afterwards the index is f(source)."""

import contextlib
import os
import random
import signal
import threading
import time
from collections.abc import Iterator
from pathlib import Path

import psycopg
import pytest
from tests.conftest import SIMPLE_CONTRACT, SIMPLE_TABLE, SLOW, Tide, wait_until
from tests.histories.program import Program
from tests.integration.offer import offer

from tidegate.database import connect
from tidegate.index.embedding.registry import Embedders
from tidegate.local import postgres
from tidegate.observe.dead_letters import list_dead_letters
from tidegate.settings import Settings

KILLS = int(os.environ.get("TIDEGATE_KILLS", "3"))
ITEM = {"id": "integer", "title": "text", "rank": "integer"}


@contextlib.contextmanager
def running(dsn: str, log: Path) -> Iterator[Program]:
    run = Program(dsn, {}, log, "tidegate.cli", "run")
    try:
        yield run
    finally:
        run.kill()


class Load(threading.Thread):
    """Changes of all kinds on team.note and team.item until told to stop; an absent server is waited for."""

    def __init__(self, dsn: str, seed: int, pause_s: float = 0.01):
        super().__init__(daemon=True)
        self._dsn, self._random, self._pause_s = dsn, random.Random(seed), pause_s
        self._done = threading.Event()
        self.changes = 0

    def run(self) -> None:
        while not self._done.is_set():
            try:
                with connect(self._dsn) as connection:
                    while not self._done.wait(self._pause_s):
                        self._change(connection)
                        self.changes += 1
            except psycopg.errors.UniqueViolation:
                continue
            except Exception:  # the server is away; what was not committed is not in the source either
                time.sleep(0.05)

    def stop(self) -> None:
        self._done.set()
        self.join(120)
        assert not self.is_alive()

    def _change(self, connection: psycopg.Connection) -> None:
        pick = self._random
        table, carried = pick.choice([("team.note", "region"), ("team.item", "rank")])
        row, turn = pick.randrange(150), self.changes
        match pick.randrange(8):
            case 0 | 1:
                connection.execute(
                    f"INSERT INTO {table} (id, title) VALUES (%s, %s) ON CONFLICT DO NOTHING", [row, f"new {turn}"]
                )
            case 2 | 3:
                connection.execute(f"UPDATE {table} SET title = %s WHERE id = %s", [f"changed {turn}", row])
            case 4:
                connection.execute(
                    f"UPDATE {table} SET {carried} = %s::text WHERE id = %s"
                    if carried == "region"
                    else f"UPDATE {table} SET rank = %s WHERE id = %s",
                    [turn, row],
                )
            case 5:
                connection.execute(f"DELETE FROM {table} WHERE id = %s", [row])
            case 6:
                connection.execute(f"UPDATE {table} SET id = %s WHERE id = %s", [pick.randrange(150), row])
            case _:
                with connection.transaction():
                    connection.execute(f"DELETE FROM {table} WHERE id = %s", [row])
                    connection.execute(f"INSERT INTO {table} (id, title) VALUES (%s, %s)", [row, f"again {turn}"])
                    connection.execute(
                        f"UPDATE {table} SET title = title || '.' WHERE id BETWEEN %s AND %s", [row, row + 3]
                    )


def same_index(dsn: str) -> None:
    """Source and index, compared in SQL: nothing missing, stale or left over; no dead letters."""
    with connect(dsn) as connection:
        for table, carried in (("note", "region"), ("item", "rank")):
            differing = connection.execute(
                f"SELECT s.id, s.title, s.{carried}, c.id, c.content, c.{carried}, c.position FROM team.{table} s FULL JOIN rag_team.{table} c ON c.id = s.id "
                f"WHERE (s.title, s.{carried}) IS DISTINCT FROM (c.content, c.{carried})"
            ).fetchall()
            if differing:
                print(*differing, sep="\n")
                print(
                    *connection.execute(
                        "SELECT key, position, state, chunks, written_at FROM tidegate.ledger ORDER BY written_at"
                    ).fetchall()[:60],
                    sep="\n",
                )
            assert differing == [], table
        ledger = connection.execute("SELECT count(*) FROM tidegate.ledger l WHERE l.state = 'indexed'").fetchone()
        rows = connection.execute(
            "SELECT (SELECT count(*) FROM team.note) + (SELECT count(*) FROM team.item)"
        ).fetchone()
        assert ledger == rows
        assert list_dead_letters(connection) == []


def caught_up(run: Program, dsn: str, timeout: float) -> None:
    """Everything that was committed before is in the index, backfills included."""
    deadline = time.monotonic() + timeout * SLOW
    with connect(dsn) as connection:
        while True:
            assert run.process.poll() is None, run.log()
            assert time.monotonic() < deadline, run.log()
            states = connection.execute("SELECT DISTINCT state FROM tidegate.product").fetchall()
            found = connection.execute("SELECT tidegate.wait_for(pg_current_wal_insert_lsn(), '1s')").fetchone()
            if found == (True,) and states == [("live",)]:
                return


def publish(dsn: str, embedders: Embedders) -> None:
    with connect(dsn) as connection:
        tide = Tide(dsn, connection, embedders, Settings(_env_file=None))
        connection.execute(SIMPLE_TABLE)
        connection.execute("CREATE TABLE team.item (id int PRIMARY KEY, title text, rank int)")
        connection.execute("INSERT INTO team.item SELECT n, 'from before', n FROM generate_series(1, 100) n")
        tide.apply(SIMPLE_CONTRACT)
        tide.apply(offer("team.item", ITEM, carried=["rank"], embed=["title"]))


@pytest.mark.timeout(600 + 60 * KILLS)
def test_killed_at_random_moments(tide: Tide, tmp_path: Path) -> None:
    publish(tide.dsn, tide.embedders)
    seed = int(os.environ.get("TIDEGATE_SEED", time.time_ns() % 10**6))
    print(f"TIDEGATE_SEED={seed}")
    pick = random.Random(seed)
    streams = "SELECT max(updated_at) > clock_timestamp() - interval '1s' FROM tidegate.watermark"
    load = Load(tide.dsn, seed)
    load.start()
    try:
        for kill in range(KILLS):
            with running(tide.dsn, tmp_path / "log") as run:
                match kill % 4:
                    case 0:
                        time.sleep(pick.uniform(1, 9))
                    case 1:  # in the middle of a backfill
                        tide.admin.execute("UPDATE tidegate.product SET state = 'pending'")
                        wait_until(lambda: tide.one(streams), 40, "it streams")
                        time.sleep(pick.uniform(0, 2.5))
                    case _:  # while much waits to be embedded, and no backfill would mend what is lost
                        wait_until(lambda: tide.one(streams), 40, "it streams")
                        tide.live("team.note")
                        tide.live("team.item")
                        tide.admin.execute("UPDATE team.note SET title = 'burst ' || id || ' ' || %s", [kill])
                        tide.admin.execute("UPDATE team.item SET title = 'burst ' || id || ' ' || %s", [kill])
                        time.sleep(pick.uniform(0.5, 2.5))
                assert run.process.poll() is None, run.log()
    finally:
        load.stop()
    assert load.changes > 100
    with running(tide.dsn, tmp_path / "log") as run:
        caught_up(run, tide.dsn, 60)
        same_index(tide.dsn)


def test_sigterm_under_load_loses_nothing(tide: Tide, tmp_path: Path) -> None:
    publish(tide.dsn, tide.embedders)
    load = Load(tide.dsn, 1, pause_s=0.002)
    with running(tide.dsn, tmp_path / "log") as run:
        caught_up(run, tide.dsn, 60)
        load.start()
        time.sleep(2)
        run.process.send_signal(signal.SIGTERM)
        assert run.process.wait(120) == 0, run.log()
    load.stop()
    with running(tide.dsn, tmp_path / "log") as run:
        caught_up(run, tide.dsn, 60)
        same_index(tide.dsn)


def test_server_restarted_under_a_run(embedders: Embedders, tmp_path: Path) -> None:
    """It goes on by itself, whether the server was shut down in order or not."""
    with postgres.temporary(postgres.DISPOSABLE) as server:
        with connect(server.dsn) as connection:
            from tidegate.govern.control_schema import initialise

            initialise(connection)
        publish(server.dsn, embedders)
        load = Load(server.dsn, 2)
        with running(server.dsn, tmp_path / "log") as run:
            caught_up(run, server.dsn, 60)
            load.start()
            time.sleep(1)
            postgres.stop(server.data, "fast")
            time.sleep(1)
            postgres.start(server.data, settings=postgres.DISPOSABLE)
            time.sleep(2)
            load.stop()
            caught_up(run, server.dsn, 60)
            same_index(server.dsn)
