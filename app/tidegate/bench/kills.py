"""`tidegate run` killed with -9 at random moments of a mixed load: what is lost, left over, stale or mixed.

Load: inserts, new texts, changed prices, deletes, changed keys, rows deleted and inserted again in one transaction,
changes of many rows, transactions that are rolled back, now and then a TRUNCATE; documents of one to three chunks. It
goes on while nothing runs. `tidegate run` is started as users start it and killed: at once, while it starts, while it
reads the table anew (backfill), or while it works off a burst of changes.

A reader looks at whole rows all the time: each version has its own number in each of its chunks, so that chunks of
two versions in one read (`mixtures`) show. After every 20 kills, and at the end, the load rests, a run catches up, and
`tidegate verify` compares source and index: `lost`, `stale` (also: wrong columns beside right chunks) and `ghosts`.
There is no floor: each goal is 0.
"""

import random
import signal
import threading
import time
from collections import Counter
from contextlib import ExitStack
from dataclasses import dataclass, field
from typing import Any

import psycopg

from tidegate.bench import catalogue
from tidegate.bench.database import database, facts, server
from tidegate.bench.process import Program, tidegate_run
from tidegate.bench.progress import steps
from tidegate.bench.report import BenchFailed, Goal, Report
from tidegate.bench.texts import Text
from tidegate.database import Connection, connect, register_vectors
from tidegate.errors import TidegateError
from tidegate.index.embedding.registry import Embedders
from tidegate.index.product import published
from tidegate.observe.comparison import Problem
from tidegate.observe.verify import Verifier
from tidegate.settings import Settings

ROWS = 120
CHECK_EVERY = 20
_PATIENCE_S = 180.0
_STREAMS = "SELECT max(updated_at) > clock_timestamp() - interval '1 second' FROM tidegate.watermark"
_REACHED = (
    "SELECT lsn >= %s::pg_lsn AND (SELECT state = 'live' FROM tidegate.product) "
    "FROM tidegate.lane_watermark WHERE lane = %s AND source = ''"
)


@dataclass(frozen=True, slots=True)
class Kills:
    """What is to be done.

    Attributes:
        kills: how often `tidegate run` is killed.
        dsn: the user's server; None: a temporary embedded one.
    """

    kills: int = 200
    seed: int = 1
    dsn: str | None = None

    def run(self) -> Report:
        """Kills and compares. Takes about 7 s a kill.

        Raises:
            BenchFailed: a run ended by itself, or did not catch up in three minutes.
        """
        pick = random.Random(self.seed)
        found: Counter[Problem] = Counter()
        parked = 0
        began = time.monotonic()
        with (
            steps() as shown,
            server(self.dsn) as server_dsn,
            database(server_dsn, "kills") as dsn,
            ExitStack() as ends,
        ):
            connection = ends.enter_context(connect(dsn))
            catalogue.create_table(connection, [_text(number, 0) for number in range(1, ROWS + 1)], self.seed)
            catalogue.publish(connection, Embedders(Settings()))
            server_facts = facts(connection)
            load, reader = Load(dsn, self.seed), Reader(dsn)
            ends.callback(load.end)
            ends.callback(reader.end)
            load.start()
            reader.start()
            move = shown.step(f"{self.kills} kills", self.kills)
            for number in range(1, self.kills + 1):
                with tidegate_run(dsn) as running:
                    _work(connection, running, pick, number)
                    running.require()
                    running.process.send_signal(signal.SIGKILL)
                    running.process.wait()
                move(None)
                if number % CHECK_EVERY == 0 or number == self.kills:
                    with load.resting(), tidegate_run(dsn) as running:
                        _catch_up(connection, running)
                        wrong, letters = _compare(dsn)
                        found += wrong
                        parked += letters
        results = {
            "kills": self.kills,
            "lost": found[Problem.MISSING] + parked,
            "ghosts": found[Problem.GHOST],
            "stale": found[Problem.STALE] + found[Problem.CARRIED],
            "mixtures": reader.mixtures,
            "changes": load.changes,
            "reads": reader.reads,
            "minutes": round((time.monotonic() - began) / 60, 1),
        }
        return Report(
            bench="kills",
            config={
                "rows": ROWS, "seed": self.seed, "check_every": CHECK_EVERY,
                "server": "embedded" if self.dsn is None else "own", **server_facts,
            },
            results=results,
            floor={},
            ratios={},
            goals=[Goal(name, results[name], 0) for name in ("lost", "ghosts", "stale", "mixtures")],
        )  # fmt: skip


class Load(threading.Thread):
    """Changes of all kinds until told to end; an absent server is waited for."""

    def __init__(self, dsn: str, seed: int):
        super().__init__(name="load", daemon=True)
        self._dsn, self._pick = dsn, random.Random(seed)
        self._ending = threading.Event()
        self._turn = threading.Lock()
        self.changes = 0

    def run(self) -> None:
        while not self._ending.is_set():
            try:
                with connect(self._dsn) as connection:
                    while not self._ending.wait(self._pick.uniform(0, 0.03)):
                        with self._turn:
                            self._change(connection)
                            self.changes += 1
            except (psycopg.Error, TidegateError):
                time.sleep(0.05)  # a key that is taken, or the server is away: what was not committed is not there

    def resting(self) -> threading.Lock:
        """A context in which nothing is changed."""
        return self._turn

    def end(self) -> None:
        self._ending.set()
        self.join(20)

    def _change(self, connection: Connection) -> None:
        pick, version = self._pick, self.changes + 1
        row = pick.randint(1, ROWS)
        match pick.randrange(12):
            case 0 | 1:
                _insert(connection, row, version)
            case 2 | 3 | 4:
                text = _text(row, version)
                connection.execute(_UPDATE, [text.name, text.description, row])
            case 5 | 6:
                connection.execute("UPDATE bench.product SET price = %s WHERE id = %s", [version, row])
            case 7:
                connection.execute("DELETE FROM bench.product WHERE id = %s", [row])
            case 8:
                connection.execute("UPDATE bench.product SET id = %s WHERE id = %s", [pick.randint(1, ROWS), row])
            case 9:
                with connection.transaction():
                    connection.execute("DELETE FROM bench.product WHERE id = %s", [row])
                    _insert(connection, row, version)
                    connection.execute(
                        "UPDATE bench.product SET price = price + 1, region = 'APAC' WHERE id BETWEEN %s AND %s",
                        [row, row + 20],
                    )
            case 10:
                with connection.transaction(force_rollback=True):
                    connection.execute("DELETE FROM bench.product WHERE id < %s", [row])
                    _insert(connection, ROWS + row, version)
            case _:
                if pick.randrange(100) == 0:
                    connection.execute("TRUNCATE bench.product")
                connection.execute(
                    "UPDATE bench.product SET description = regexp_replace(description, 'v[0-9]+', %s, 'g'), "
                    "name = %s WHERE id BETWEEN %s AND %s",
                    [f"v{version}", f"v{version}", row, row + 5],
                )


_UPDATE = "UPDATE bench.product SET name = %s, description = %s WHERE id = %s"


@dataclass
class Reader(threading.Thread):
    """Reads whole rows of the index all the time, and counts those that are of two versions."""

    dsn: str
    mixtures: int = 0
    reads: int = 0
    _ending: threading.Event = field(default_factory=threading.Event)

    def __post_init__(self) -> None:
        super().__init__(name="reader", daemon=True)

    __hash__ = threading.Thread.__hash__

    def run(self) -> None:
        pick = random.Random(0)
        while not self._ending.is_set():
            try:
                with connect(self.dsn) as connection:
                    while not self._ending.wait(0.02):
                        row = pick.randint(1, ROWS)
                        statement = "SELECT id, content FROM rag_bench.product WHERE id BETWEEN %s AND %s"
                        self._look(connection.execute(statement, [row, row + 20]).fetchall())
            except (psycopg.Error, TidegateError):
                time.sleep(0.05)

    def end(self) -> None:
        self._ending.set()
        self.join(20)

    def _look(self, chunks: list[Any]) -> None:
        versions: dict[int, set[str]] = {}
        for number, content in chunks:
            words = {word.strip(".") for word in content.split()}
            versions.setdefault(number, set()).update(word for word in words if word[:1] == "v" and word[1:].isdigit())
        self.reads += len(versions)
        self.mixtures += sum(len(of_row) > 1 for of_row in versions.values())


def _text(row: int, version: int) -> Text:
    """A text of one to three chunks, with its version in each sentence."""
    sentences = (
        f"Part {part} of product {row} in version v{version} v{version} v{version}." for part in range(row % 25)
    )
    return Text(name=f"v{version}", description=" ".join(sentences) or f"v{version}")


def _insert(connection: Connection, row: int, version: int) -> None:
    text = _text(row, version)
    connection.execute(
        "INSERT INTO bench.product (id, region, price, name, description) VALUES (%s, 'EU', %s, %s, %s) "
        "ON CONFLICT DO NOTHING",
        [row, version, text.name, text.description],
    )


def _work(connection: Connection, running: Program, pick: random.Random, number: int) -> None:
    """Lets the run get as far as it is to get."""
    if number % 4 == 0:  # wherever it is
        time.sleep(pick.uniform(0, 9))
        return
    _await(running, lambda: connection.execute(_STREAMS).fetchone() == (True,))
    match number % 4:
        case 1:  # a backfill
            connection.execute("UPDATE tidegate.product SET state = 'pending'")
        case 2:  # a burst of texts to be embedded
            connection.execute("UPDATE bench.product SET name = name || ' ' WHERE id %% 3 = 0", [])
        case _:  # a burst of other changes
            connection.execute("UPDATE bench.product SET price = price + 1")
    time.sleep(pick.uniform(0, 2.5))


def _catch_up(connection: Connection, running: Program) -> None:
    row = connection.execute("SELECT pg_current_wal_insert_lsn()::text").fetchone()
    assert row is not None
    _await(running, lambda: connection.execute(_REACHED, [row[0], catalogue.MODEL]).fetchone() == (True,))


def _compare(dsn: str) -> tuple[Counter[Problem], int]:
    with connect(dsn, role="tidegate_worker") as index, connect(dsn, role="tidegate_worker") as source:
        register_vectors(index)
        (product,) = published(index, Embedders(Settings())).values()
        verification = Verifier(index, source, product).run(anew=True)
    if verification.skipped is not None:
        raise BenchFailed(f"{verification.product} was not compared: {verification.skipped}")
    return Counter(finding.problem for finding in verification.findings), verification.parked


def _await(running: Program, done: Any) -> None:
    deadline = time.monotonic() + _PATIENCE_S
    while not done():
        running.require()
        if time.monotonic() > deadline:
            raise BenchFailed(f"the run did not get as far in {_PATIENCE_S:.0f} s:\n{running.tail()}")
        time.sleep(0.02)
