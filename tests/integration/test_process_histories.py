"""Random histories with a real `tidegate run` on a server of its own: kill -9, SIGTERM, pauses, cut connections, restarts
of Postgres in order and not, a model that is slow or away. At every read the index can be explained; in the end it is
the source.

The engine (Debezium's JVM) is in the process that is killed. `TIDEGATE_HISTORIES=300` is the long mode.
"""

import time
from collections.abc import Iterator
from dataclasses import dataclass
from pathlib import Path

import pytest
from hypothesis import strategies as st
from hypothesis.stateful import precondition, rule
from tests.conftest import Tide, wait_until
from tests.histories.history import PATIENCE_S, histories, run_histories
from tests.histories.model import QuickModel, QuickModels
from tests.histories.page import CONTRACT, Pages
from tests.histories.process_history import Processes, ProcessHistory, moments
from tests.histories.program import Faults, Program

from tidegate.database import connect
from tidegate.govern.control_schema import initialise
from tidegate.index.embedding.local_model import MODEL
from tidegate.index.embedding.registry import Embedders
from tidegate.local import postgres
from tidegate.settings import Settings

HISTORIES = histories(1)
# What was committed is there after a crash: else the source itself would go back.
DURABLE = {**postgres.DISPOSABLE, "synchronous_commit": "on"}


@dataclass
class Restarted(Processes):
    """With a server that can be restarted."""

    server: postgres.LocalPostgres | None = None


class Histories(ProcessHistory):
    """See the module."""

    held: Restarted

    @rule(mode=st.sampled_from(["fast", "immediate"]), moment=moments, away_s=moments)
    def restart_postgres(self, mode: str, moment: float, away_s: float) -> None:
        # A run that finds no database when it starts ends, as for a wrong DSN.
        wait_until(lambda: all(program.begun() for program in self.held.running if program), PATIENCE_S, "they run")
        time.sleep(moment)
        self.note("Postgres", mode)
        server = self.held.server
        assert server is not None
        self.pages.connection.close()
        postgres.stop(server.data, mode)  # type: ignore[arg-type]
        time.sleep(away_s)
        postgres.start(server.data, server.port, DURABLE)
        self.pages.connection = connect(self.held.dsn)

    @rule(moment=moments)
    def cut(self, moment: float) -> None:
        """All connections of tidegate end, the engine's and the worker's."""
        time.sleep(moment)
        self.note("cut")
        self.pages.connection.execute(
            "SELECT pg_terminate_backend(pid) FROM pg_stat_activity "
            "WHERE application_name LIKE 'tidegate %' OR application_name LIKE 'Debezium%'"
        )

    @precondition(lambda self: None not in self.held.running)
    @rule()
    def let_it_stream(self) -> None:
        """Whatever comes next meets a run that is at work, not one that starts."""
        self.held.faults.tell()
        self.held.caught_up()


@pytest.fixture
def held(embedders: Embedders, tmp_path: Path) -> Iterator[Restarted]:
    faults = Faults(tmp_path / "faults")
    with postgres.temporary(DURABLE) as server, connect(server.dsn) as connection:
        initialise(connection)
        pages = Pages(connection)
        pages.create()
        models = QuickModels(QuickModel(embedders.of(MODEL)))
        Tide(server.dsn, connection, models, Settings(_env_file=None)).apply(CONTRACT)

        def start() -> Program:
            environment = {"TIDEGATE_EMBEDDING_ATTEMPTS": "10000"}
            command = ("tests.histories.launch", str(faults.file), "run")
            return Program(server.dsn, environment, tmp_path / "log", *command)

        made = Restarted(server.dsn, pages, faults, start, [None], server=server)
        yield made
        made.close()
        pages.connection.close()


@pytest.mark.timeout(600 + 120 * HISTORIES)
def test_a_run_that_is_killed_under_any_history_loses_nothing(held: Restarted) -> None:
    run_histories(lambda failures: Histories(failures, held), HISTORIES, 12)
    assert held.deeds
