"""What all tests share: one server a session, a database cloned from a template a test, pipelines on it."""

import contextlib
import itertools
import logging
import os
import re
import time
from collections.abc import Callable, Iterator
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

import hypothesis
import psycopg
import pytest
from psycopg import sql
from psycopg.conninfo import make_conninfo

from tests.disposable import disposable_server
from tests.kafka.cluster import lack
from tidegate.contract.contract import Contract
from tidegate.contract.odcs import parse_contract
from tidegate.contract.version import Bump, Version
from tidegate.database import Connection, connect
from tidegate.govern.apply import apply_plan
from tidegate.govern.control_schema import initialise
from tidegate.govern.plan import Plan, make_plan
from tidegate.index.embedding.registry import Embedders
from tidegate.pipeline import Pipeline
from tidegate.settings import Settings

TEMPLATE = "tidegate_template"
KAFKA = "tests/kafka/"
SLOW = 6
"""Waits are as long as a quiet machine may need, times this: a busy one fails no test, and a wait that is over costs nothing."""
_numbers = itertools.count(1)

os.environ.pop("TIDEGATE_DSN", None)

# Performance lives in benchmarks: on a busy machine a deadline tells nothing of the code.
hypothesis.settings.register_profile("tidegate", deadline=None)
hypothesis.settings.load_profile("tidegate")


def pytest_configure() -> None:
    """Where Kafka's tests must not be skipped, says so before any test runs; of several processes the first does."""
    if os.environ.get("TIDEGATE_REQUIRE_KAFKA") and (missing := lack()):
        raise pytest.UsageError(f"TIDEGATE_REQUIRE_KAFKA is set, but there is {missing}")


@pytest.hookimpl(optionalhook=True)
def pytest_xdist_make_scheduler(config: pytest.Config, log: Any) -> Any:
    """Of several processes one runs a file, for its fixtures, and one all of Kafka's tests, for their cluster.

    Not by marks and `--dist loadgroup`, which pytest 9.2 takes no notice of (pytest-xdist, issue 1386).
    """
    from xdist.scheduler import LoadScopeScheduling

    class ByFile(LoadScopeScheduling):
        def _split_scope(self, nodeid: str) -> str:
            file = nodeid.partition("::")[0]
            return KAFKA if file.startswith(KAFKA) else file

    return ByFile(config, log)


@pytest.fixture(autouse=True)
def _logging_as_it_was() -> Iterator[None]:
    """A command that runs in this process logs to a stderr that is closed after the test."""
    root, ours = logging.getLogger(), logging.getLogger("tidegate")
    handlers, levels = root.handlers[:], (root.level, ours.level)
    yield
    root.handlers[:] = handlers
    root.setLevel(levels[0])
    ours.setLevel(levels[1])


@pytest.fixture(scope="session")
def server_dsn() -> Iterator[str]:
    """A superuser's DSN on a server of this session alone."""
    with disposable_server() as server:
        yield server.dsn


@pytest.fixture(scope="session")
def template(server_dsn: str) -> str:
    """The name of a database with the control schema."""
    with psycopg.connect(server_dsn, autocommit=True) as connection:
        connection.execute(sql.SQL("CREATE DATABASE {}").format(sql.Identifier(TEMPLATE)))
    with connect(make_conninfo(server_dsn, dbname=TEMPLATE)) as connection:
        initialise(connection)
    return TEMPLATE


@pytest.fixture
def dsn(server_dsn: str, template: str) -> Iterator[str]:
    """A superuser's DSN on a fresh database with the control schema; dropped afterwards, its slots first."""
    with fresh_database(server_dsn, template) as fresh:
        yield fresh


@contextlib.contextmanager
def fresh_database(server_dsn: str, template: str) -> Iterator[str]:
    """The same, for a fixture that lives longer than a test."""
    name = f"test_{next(_numbers)}"
    with psycopg.connect(server_dsn, autocommit=True) as connection:
        connection.execute(
            sql.SQL("CREATE DATABASE {} TEMPLATE {}").format(sql.Identifier(name), sql.Identifier(template))
        )
        # A clone has the template's contents, but not the privileges on the database itself.
        connection.execute(sql.SQL("GRANT CREATE ON DATABASE {} TO tidegate_owner").format(sql.Identifier(name)))
        yield make_conninfo(server_dsn, dbname=name)
        _drop(connection, name)


def _drop(connection: Connection, name: str) -> None:
    deadline = time.monotonic() + 10 * SLOW
    while time.monotonic() < deadline:
        slots = connection.execute(
            "SELECT slot_name, active_pid FROM pg_replication_slots WHERE database = %s", [name]
        ).fetchall()
        if not slots:
            break
        for slot, pid in slots:
            # Who had it may come again in between (Connect does), or drop it.
            with contextlib.suppress(psycopg.errors.ObjectInUse, psycopg.errors.UndefinedObject):
                if pid is not None:
                    connection.execute("SELECT pg_terminate_backend(%s)", [pid])
                else:
                    connection.execute("SELECT pg_drop_replication_slot(%s)", [slot])
        time.sleep(0.02)
    connection.execute(sql.SQL("DROP DATABASE {} WITH (FORCE)").format(sql.Identifier(name)))


@pytest.fixture
def admin(dsn: str) -> Iterator[Connection]:
    """A superuser's connection, autocommit, on the test's database."""
    with connect(dsn) as connection:
        yield connection


@pytest.fixture(scope="session")
def embedders() -> Embedders:
    """The real embedders; the local model is loaded once a session."""
    return Embedders(Settings(_env_file=None))


@pytest.fixture
def settings() -> Settings:
    """Settings for tests: heartbeats often, so that watermarks move quickly."""
    return Settings(heartbeat_ms=200, _env_file=None)


@dataclass
class Tide:
    """A test's database with tidegate on it: publishes contracts, runs pipelines, waits for the index."""

    dsn: str
    admin: Connection
    embedders: Embedders
    settings: Settings
    pipelines: list[Pipeline] = field(default_factory=list)

    def apply(self, contract: str | bytes, **options: Any) -> Plan:
        """Publishes a contract given as YAML text; under a version of its own where it differs from the published
        one, since a published version stays what it is."""
        parsed = self.bumped(self.contract(contract))
        options.setdefault("embedder_of", self.embedders.of)
        plan = make_plan(self.admin, parsed, self.embedders.of(parsed.embedding.model), **options)
        apply_plan(self.admin, plan)
        return plan

    def contract(self, text: str | bytes) -> Contract:
        return parse_contract(text.encode() if isinstance(text, str) else text, "test.odcs.yaml")

    def bumped(self, contract: Contract) -> Contract:
        """The contract, with the next major version where its own is published with another text or lies behind."""
        row = self.admin.execute(
            "SELECT contract_version, contract_text FROM tidegate.product WHERE product = %s", [contract.product]
        ).fetchone()
        if row is None or contract.text == row[1]:
            return contract
        published = Version.parse(row[0])
        if Version.parse(contract.version) > published:
            return contract
        if _with_version(contract.text, published) == row[1]:
            return self.contract(row[1])
        return self.contract(_with_version(contract.text, published.after(Bump.MAJOR)))

    def run(self) -> Pipeline:
        """Starts a pipeline and waits until it streams. Stopped at the end of the test."""
        pipeline = Pipeline(self.dsn, self.settings, self.embedders)
        pipeline.start()
        self.pipelines.append(pipeline)
        wait_until(lambda: pipeline.streaming or pipeline.failure(), 30, "the pipeline streams")
        assert pipeline.failure() is None
        return pipeline

    def stop(self) -> None:
        """Stops the pipelines, as SIGTERM does."""
        for pipeline in self.pipelines:
            pipeline.stop()
        self.pipelines.clear()

    def live(self, product: str, timeout: float = 60) -> None:
        """Waits until the product's backfill is in the index."""
        wait_until(
            lambda: self.one("SELECT state FROM tidegate.product WHERE product = %s", product) == "live",
            timeout,
            f"{product} is live",
        )

    def caught_up(self, timeout: float = 30) -> None:
        """Waits until everything that was committed before is in the index."""
        waited = "SELECT tidegate.wait_for(pg_current_wal_insert_lsn(), make_interval(secs => %s))"
        found = self.one(waited, timeout * SLOW)
        assert found, "the index did not catch up"

    def one(self, statement: str, *parameters: Any) -> Any:
        """The first column of the only row."""
        row = self.admin.execute(statement, parameters).fetchone()  # type: ignore[arg-type]
        assert row is not None
        return row[0]

    def rows(self, statement: str, *parameters: Any) -> list[tuple[Any, ...]]:
        return self.admin.execute(statement, parameters).fetchall()  # type: ignore[arg-type]


def _with_version(text: str, version: Version) -> str:
    return re.sub(r"^version: .*$", f"version: {version}", text, flags=re.MULTILINE)


@pytest.fixture
def tide(dsn: str, admin: Connection, embedders: Embedders, settings: Settings) -> Iterator[Tide]:
    """The test's database with tidegate on it; nothing is published or running yet."""
    held = Tide(dsn, admin, embedders, settings)
    yield held
    held.stop()


def wait_until(condition: Callable[[], object], timeout: float, what: str) -> None:
    """Waits until the condition holds; fails the test, naming `what`, when it does not in SLOW times `timeout` s."""
    deadline = time.monotonic() + timeout * SLOW
    while not condition():
        assert time.monotonic() < deadline, f"not in {timeout * SLOW} s: {what}"
        time.sleep(0.01)


SIMPLE_CONTRACT = (Path(__file__).parent / "data" / "note.odcs.yaml").read_text(encoding="utf-8")
"""Product `team.note`: table team.note (id bigint, title text, body text, region text, price numeric)."""

SIMPLE_TABLE = (
    "CREATE SCHEMA team; CREATE TABLE team.note (id bigint PRIMARY KEY, title text, body text, "
    "region text NOT NULL DEFAULT 'EU', price numeric(10,2), secret text)"
)
