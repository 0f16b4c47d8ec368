"""The installed command as a subprocess, in a folder and an environment of its own, on databases without tidegate."""

import itertools
import os
import signal
import subprocess
import sys
from collections.abc import Iterator
from dataclasses import dataclass, field
from pathlib import Path

import psycopg
import pytest
from psycopg import sql
from psycopg.conninfo import make_conninfo
from tests.conftest import SIMPLE_TABLE, _drop, wait_until

from tidegate.database import Connection, connect

_numbers = itertools.count(1)
COMMAND = Path(sys.executable).parent / "tidegate"


@dataclass
class Result:
    code: int
    out: str
    err: str


@dataclass
class Command:
    """`tidegate …`, with TIDEGATE_DSN set where there is a database."""

    folder: Path
    dsn: str | None = None
    environment: dict[str, str] = field(default_factory=dict)

    def environ(self, **extra: str) -> dict[str, str]:
        kept = {name: os.environ[name] for name in ("PATH", "LANG", "LD_LIBRARY_PATH") if name in os.environ}
        dsn = {"TIDEGATE_DSN": self.dsn} if self.dsn else {}
        return kept | {"HOME": str(self.folder)} | dsn | self.environment | extra

    def __call__(self, *arguments: str, timeout: float = 300, **extra: str) -> Result:
        done = subprocess.run(
            [str(COMMAND), *arguments],
            capture_output=True, text=True, timeout=timeout, cwd=self.folder, env=self.environ(**extra), check=False,
            stdin=subprocess.DEVNULL,
        )  # fmt: skip
        assert "Traceback" not in done.stderr, done.stderr
        return Result(done.returncode, done.stdout, done.stderr)

    def ok(self, *arguments: str, timeout: float = 300, **extra: str) -> Result:
        done = self(*arguments, timeout=timeout, **extra)
        assert done.code == 0, done
        return done


@dataclass
class Running:
    """A `tidegate run` that has said that it runs; what it prints goes to files."""

    process: "subprocess.Popen[str]"
    folder: Path

    def out(self) -> str:
        return (self.folder / "run.out").read_text(encoding="utf-8")

    def err(self) -> str:
        return (self.folder / "run.err").read_text(encoding="utf-8")

    def end(self, number: signal.Signals) -> int:
        self.process.send_signal(number)
        return self.process.wait(200)


def start_run(command: Command) -> Running:
    folder = command.folder / f"run_{next(_numbers)}"
    folder.mkdir()
    with (folder / "run.out").open("w") as out, (folder / "run.err").open("w") as err:
        process = subprocess.Popen(
            [str(COMMAND), "run"],
            stdout=out, stderr=err, text=True, cwd=command.folder, env=command.environ(TIDEGATE_HEARTBEAT_MS="200"),
        )  # fmt: skip
    running = Running(process, folder)
    wait_until(lambda: "tidegate runs" in running.err() or process.poll() is not None, 90, "tidegate runs")
    assert process.poll() is None, running.err()
    return running


@pytest.fixture(scope="module")
def database(server_dsn: str) -> Iterator[str]:
    """A superuser's DSN on a database without tidegate, with the table team.note."""
    yield from _database(server_dsn)


@pytest.fixture
def bare(server_dsn: str) -> Iterator[str]:
    """The same for one test."""
    yield from _database(server_dsn)


def _database(server_dsn: str) -> Iterator[str]:
    name = f"accept_{next(_numbers)}"
    with psycopg.connect(server_dsn, autocommit=True) as connection:
        connection.execute(sql.SQL("CREATE DATABASE {}").format(sql.Identifier(name)))
        dsn = make_conninfo(server_dsn, dbname=name)
        with connect(dsn) as opened:
            opened.execute(SIMPLE_TABLE)
        yield dsn
        _drop(connection, name)


@pytest.fixture
def bare_admin(bare: str) -> Iterator[Connection]:
    with connect(bare) as connection:
        yield connection
