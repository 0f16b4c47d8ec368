"""Pipelines that fail while they start: for good, or because the database went away under them."""

import threading
from collections.abc import Callable

import psycopg
import pytest

from tidegate import pipeline
from tidegate.capture.engine import EngineStopped
from tidegate.database import ConnectionFailed
from tidegate.errors import TidegateError
from tidegate.index.embedding.registry import Embedders
from tidegate.settings import Settings


class Runs:
    """A pipeline that streams, and is stopped at once; or fails before."""

    def __init__(self, stop: threading.Event, failure: TidegateError | None = None):
        self._stop, self._failure = stop, failure
        self.streaming = failure is None

    def start(self) -> None:
        if self._failure is None:
            self._stop.set()

    def failure(self) -> TidegateError | None:
        return self._failure

    def stop(self) -> bool:
        return True


def run(monkeypatch: pytest.MonkeyPatch, *errors: Exception) -> int:
    """How many pipelines were made until one streamed; each of the errors is that of one."""
    monkeypatch.setattr(pipeline, "_RESTART_FIRST_S", 0.001)
    stop, left, made = threading.Event(), list(errors), 0

    def make(dsn: str, settings: Settings, embedders: Embedders) -> Runs:
        nonlocal made
        made += 1
        error = left.pop(0) if left else None
        if isinstance(error, EngineStopped):
            return Runs(stop, error)
        if error is not None:
            raise error
        return Runs(stop)

    settings = Settings(_env_file=None)
    started: Callable[[object], None] = lambda _: None  # noqa: E731
    pipeline._run_pipelines(stop, "", settings, Embedders(settings), started, make)
    return made


@pytest.mark.parametrize(
    "lost",
    [
        psycopg.OperationalError("consuming input failed: server closed the connection unexpectedly"),
        psycopg.errors.AdminShutdown("terminating connection due to administrator command"),
    ],
)
def test_a_database_that_hangs_up_during_the_start_is_waited_for(
    monkeypatch: pytest.MonkeyPatch, lost: Exception
) -> None:
    assert run(monkeypatch, lost, ConnectionFailed("cannot connect: it starts up"), lost) == 4


@pytest.mark.parametrize(
    "error",
    [
        ConnectionFailed("cannot connect: there is no such host"),
        psycopg.errors.ConfigurationLimitExceeded("all replication slots are in use"),
    ],
)
def test_what_fails_at_the_start_for_another_reason_fails_for_good(
    monkeypatch: pytest.MonkeyPatch, error: Exception
) -> None:
    with pytest.raises(type(error)):
        run(monkeypatch, error)


def test_an_engine_that_fails_before_anything_came_is_started_again_a_few_times(
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    """The database was there when the run began; it may just be starting anew."""
    refused = EngineStopped("the connection attempt failed")
    away = ConnectionFailed("cannot connect: it starts up")
    assert run(monkeypatch, refused, away, refused) == 4
    with pytest.raises(EngineStopped):
        run(monkeypatch, refused, away, refused, refused)
