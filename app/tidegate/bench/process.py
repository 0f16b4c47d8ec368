"""Programs that a benchmark starts, and ends however it itself ends."""

import contextlib
import os
import signal
import subprocess
import sys
import tempfile
import time
from collections.abc import Callable, Iterator, Mapping, Sequence
from dataclasses import dataclass
from typing import IO

from tidegate.bench.report import BenchFailed
from tidegate.capture.slot import default_slot
from tidegate.database import Connection, connect

_END_S = 40.0
_START_S = 90.0


@dataclass(frozen=True, slots=True)
class Program:
    """A running program; `errors` is what it has written to stderr so far."""

    process: "subprocess.Popen[str]"
    errors: "IO[str]"

    def tail(self) -> str:
        """The last lines that it wrote to stderr."""
        self.errors.seek(0)
        return "\n".join(self.errors.read().splitlines()[-15:])

    def require(self) -> None:
        """Raises BenchFailed, with its last words, if it has ended."""
        if self.process.poll() is not None:
            raise BenchFailed(f"{self.process.args!r} ended with {self.process.returncode}:\n{self.tail()}")


@contextlib.contextmanager
def tidegate_run(dsn: str) -> Iterator[Program]:
    """`tidegate run` on a database, as a user starts it. SIGTERM at the end, as a user stops it."""
    with program([sys.executable, "-m", "tidegate.cli", "run"], dsn) as running:
        yield running


@contextlib.contextmanager
def program(command: Sequence[str], dsn: str, extra: Mapping[str, str] | None = None) -> Iterator[Program]:
    """A program with the database in its environment, where no other user of the machine can read it.

    Args:
        extra: more of its environment.
    """
    with connect(dsn) as connection:
        slot = default_slot(connection.info.dbname)
    environment = {**os.environ, "TIDEGATE_DSN": dsn, "TIDEGATE_SLOT": slot, **(extra or {})}
    with (
        tempfile.TemporaryFile("w+") as errors,
        subprocess.Popen(
            list(command),
            env=environment,
            stdin=subprocess.DEVNULL,
            stdout=subprocess.PIPE,
            stderr=errors,
            text=True,
        ) as process,
    ):
        try:
            yield Program(process, errors)
        finally:
            process.send_signal(signal.SIGTERM)
            try:
                process.wait(_END_S)
            except subprocess.TimeoutExpired:
                process.kill()


def wait_until_live(connection: Connection, running: Program, product: str, look: Callable[[int], None]) -> None:
    """Waits until the product's rows are in the index. `look` is told their number ten times a second."""
    moved, rows = time.monotonic(), -1
    while True:
        running.require()
        row = connection.execute(
            "SELECT p.state, (SELECT count(*) FROM tidegate.ledger l WHERE l.product_id = p.product_id) "
            "FROM tidegate.product p WHERE p.product = %s",
            [product],
        ).fetchone()
        assert row is not None
        look(row[1])
        if row[0] == "live":
            return
        if row[1] != rows:
            moved, rows = time.monotonic(), row[1]
        elif time.monotonic() > moved + _START_S:
            raise BenchFailed(f"{product} is {row[0]}, and nothing moved for {_START_S:.0f} s:\n{running.tail()}")
        time.sleep(0.1)
