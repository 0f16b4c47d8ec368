"""What the demonstration plays on: a server, three domains with rows, people, and a running tidegate."""

import csv
import os
import signal
import subprocess
import sys
import time
from collections.abc import Iterator
from contextlib import contextmanager
from dataclasses import dataclass
from pathlib import Path

import psycopg
from psycopg import sql
from psycopg.conninfo import make_conninfo

from tidegate.contract.odcs import load_contracts
from tidegate.database import Connection, connect
from tidegate.errors import TidegateError, UsageError
from tidegate.govern.apply import apply_plan
from tidegate.govern.control_schema import initialise
from tidegate.govern.plan import Plan, make_plan
from tidegate.govern.principals import set_attributes
from tidegate.index.embedding.registry import Embedders
from tidegate.local import postgres

HERE = Path(__file__).parent
DATABASE = "demo"
PRODUCTS = ("policy.rule", "shop.product", "support.ticket")

PEOPLE = {
    "alice": (("customer", "employee", "support_agent"), {"regions": ["EU"], "clearance": ["1"]}),
    "bob": (("customer", "employee", "support_agent"), {"regions": ["US"], "clearance": ["2"]}),
}
"""Name → roles, attributes. Alice is an agent for Europe; Bob is a manager for the United States."""


class RunEnded(TidegateError):
    """ "tidegate run" ended during the demonstration."""


@dataclass(frozen=True, slots=True)
class Stage:
    """A database with the three domains, and the process that keeps its index."""

    dsn: str
    process: subprocess.Popen[bytes]
    log: Path

    def check(self) -> None:
        """Raises RunEnded when `tidegate run` is gone."""
        if self.process.poll() is not None:
            raise RunEnded(f'"tidegate run" ended with code {self.process.returncode}:\n{self.log.read_text()[-2000:]}')

    def stop(self) -> None:
        """Ends `tidegate run`, as SIGTERM does."""
        self.process.send_signal(signal.SIGTERM)
        try:
            self.process.wait(30)
        except subprocess.TimeoutExpired:
            self.process.kill()
            self.process.wait()


@contextmanager
def server(keep: Path | None) -> Iterator[postgres.LocalPostgres]:
    """A temporary server, or with `keep` one in that folder that goes on running."""
    if keep is None:
        with postgres.temporary() as temporary:
            yield temporary
    else:
        yield postgres.start(keep)


def create_domains(server_dsn: str) -> str:
    """Makes the database with its three domains and people anew; returns its DSN."""
    with psycopg.connect(server_dsn, autocommit=True) as connection:
        running = connection.execute(
            "SELECT slot_name FROM pg_replication_slots WHERE database = %s AND active", [DATABASE]
        ).fetchone()
        if running is not None:
            raise UsageError(
                'the kept demo still runs; end its "tidegate run" first (pgrep -f "tidegate.cli run"), or go on with it'
            )
        for (slot,) in connection.execute(
            "SELECT slot_name FROM pg_replication_slots WHERE database = %s AND NOT active", [DATABASE]
        ).fetchall():
            connection.execute("SELECT pg_drop_replication_slot(%s)", [slot])
        connection.execute(sql.SQL("DROP DATABASE IF EXISTS {}").format(sql.Identifier(DATABASE)))
        connection.execute(sql.SQL("CREATE DATABASE {}").format(sql.Identifier(DATABASE)))
    dsn = make_conninfo(server_dsn, dbname=DATABASE)
    with connect(dsn) as connection:
        connection.execute((HERE / "schema.sql").read_text(encoding="utf-8"))
        for product in PRODUCTS:
            _load_rows(connection, product)
    return dsn


def _load_rows(connection: Connection, product: str) -> None:
    schema, _, table = product.partition(".")
    with (HERE / "rows" / f"{product}.csv").open(encoding="utf-8", newline="") as file:
        header = next(csv.reader(file))
        copy = sql.SQL("COPY {} ({}) FROM STDIN (FORMAT csv)").format(
            sql.Identifier(schema, table), sql.SQL(", ").join(map(sql.Identifier, header))
        )
        with connection.cursor().copy(copy) as sink:
            for line in file:
                sink.write(line)


def publish(dsn: str, embedders: Embedders) -> list[Plan]:
    """`tidegate init` and `tidegate apply`, then the people and what is known of them."""
    with connect(dsn) as connection:
        initialise(connection)
        plans = []
        for contract in load_contracts(HERE / "contracts"):
            plan = make_plan(connection, contract, embedders.of(contract.embedding.model))
            apply_plan(connection, plan)
            plans.append(plan)
        for name, (roles, attributes) in PEOPLE.items():
            if connection.execute("SELECT FROM pg_roles WHERE rolname = %s", [name]).fetchone() is None:
                connection.execute(sql.SQL("CREATE ROLE {} LOGIN").format(sql.Identifier(name)))
            connection.execute(
                sql.SQL("GRANT {} TO {}").format(sql.SQL(", ").join(map(sql.Identifier, roles)), sql.Identifier(name))
            )
            set_attributes(connection, name, attributes)
    return plans


def run(dsn: str, log: Path) -> Stage:
    """Starts `tidegate run`, as a process of its own."""
    with log.open("wb") as output:
        process = subprocess.Popen(
            [sys.executable, "-m", "tidegate.cli", "run"],
            env={**os.environ, "TIDEGATE_DSN": dsn},
            stdin=subprocess.DEVNULL,
            stdout=output,
            stderr=subprocess.STDOUT,
            start_new_session=True,
        )
    return Stage(dsn, process, log)


def wait_until_live(stage: Stage, connection: Connection, timeout: float = 60.0) -> None:
    """Waits until the rows of all three products are in the index.

    Raises:
        RunEnded: `tidegate run` ended, or it took longer than `timeout` seconds.
    """
    deadline = time.monotonic() + timeout
    while connection.execute("SELECT bool_and(state = 'live') FROM tidegate.product").fetchone() != (True,):
        stage.check()
        if time.monotonic() > deadline:
            raise RunEnded(f"the rows were not indexed in {timeout:.0f} s; see {stage.log}")
        time.sleep(0.05)
