"""Engine and worker in one process: what `tidegate run` runs."""

import logging
import threading
from collections.abc import Callable
from typing import Any, Protocol

import psycopg
from psycopg.conninfo import conninfo_to_dict, make_conninfo

from tidegate.backoff import Backoff
from tidegate.capture.acknowledgement import Acknowledgements
from tidegate.capture.debezium import MESSAGE_PREFIX
from tidegate.capture.engine import EmbeddedEngine, EngineConfig
from tidegate.capture.slot import SlotMissing, default_slot, ensure_slot
from tidegate.capture.stream import HOME
from tidegate.database import Connection, NotInitialised, connect
from tidegate.errors import TidegateError, UsageError
from tidegate.govern.control_schema import ServerUnfit, check_server, require_current
from tidegate.govern.controller import Around, Controller
from tidegate.index.embedding.registry import Embedders
from tidegate.index.fleet import set_stream
from tidegate.index.product import published, secret_columns
from tidegate.index.source_check import suspend_source
from tidegate.index.worker import Worker
from tidegate.observe.backfill_lineage import BackfillLineage
from tidegate.observe.lineage import Lineage
from tidegate.settings import Settings
from tidegate.sql import queries

log = logging.getLogger(__name__)


class Runs(Protocol):
    """What brings the changes of a database into its index, until it is stopped or fails."""

    def start(self) -> None: ...

    @property
    def streaming(self) -> bool: ...

    def failure(self) -> TidegateError | None: ...

    def stop(self) -> bool: ...


DRAIN_S = 20.0
_RESTART_FIRST_S, _RESTART_MOST_S = 1.0, 15.0
_STARTS = 4
"""So often a start is tried that found its database and then failed: it may have gone away, or the engine refuses."""


class Pipeline:
    """One engine and one worker. Not to be started twice: a new one takes over where it left off."""

    def __init__(self, dsn: str, settings: Settings, embedders: Embedders):
        self._dsn = complete(dsn)
        self._lineage = BackfillLineage(Lineage(settings.openlineage))
        with connect(self._dsn) as connection:
            check_server(connection)
            require_current(connection)
            _require_home(connection)
            slot = settings.slot or default_slot(connection.info.dbname)
            try:
                ensure_slot(connection, slot)
            except SlotMissing as lost:
                suspend_source(connection, HOME, str(lost))
                raise
            set_stream(connection, HOME, "embedded", 1, [MESSAGE_PREFIX])
            products = published(connection, embedders)
        config = EngineConfig(
            dsn=self._dsn,
            slot=slot,
            poll_ms=settings.poll_interval_ms,
            heartbeat_ms=settings.heartbeat_ms,
            heap_mb=settings.jvm_heap_mb,
            excluded_columns=secret_columns(p.contract for p in products.values() if p.source == HOME),
        )
        self._acknowledgements: Acknowledgements[Any] = Acknowledgements()
        self._worker = Worker(self._dsn, settings, embedders, self._acknowledgements, self._lineage)
        self._engine = EmbeddedEngine(config, self._worker, self._acknowledgements)

    def start(self) -> None:
        """Starts the worker, then the engine."""
        self._worker.start()
        self._engine.start()

    @property
    def streaming(self) -> bool:
        """Whether the first events have come: from now on changes are seen as they are committed."""
        return self._worker.streaming

    def failure(self) -> TidegateError | None:
        """Why the engine stopped by itself, if it did."""
        return self._engine.failure()

    def stop(self) -> bool:
        """Writes what was taken, acknowledges it, and ends. False: not everything could be written in time;
        it comes again after the next start."""
        drained = self._worker.drain(DRAIN_S)
        if self._engine.failure() is None:
            self._provoke_batch()
            self._acknowledgements.wait_until_acknowledged(3.0)
        self._engine.stop()
        self._worker.stop()
        self._lineage.close()
        return drained

    def _provoke_batch(self) -> None:
        """Batches are acknowledged when the next one comes; this makes one come now."""
        try:
            with connect(self._dsn) as connection:
                connection.execute("SELECT pg_logical_emit_message(true, 'tidegate', 'stop')")
        except (TidegateError, psycopg.Error) as error:
            log.warning("last batch is not acknowledged, it comes again", extra={"reason": str(error)})


def _require_home(connection: Connection) -> None:
    """Raises UsageError where rows come from another database: only Kafka's workers read those."""
    row = connection.execute(queries("stream")["origins"]).fetchone()
    if row is not None:
        raise UsageError(
            f'the rows of {row[0]} come from "{row[1]}", another database than the index\'s; "tidegate run" reads only '
            'that one. Several sources come through Kafka: "tidegate connect apply" and "tidegate worker"'
        )


def run_until(
    stop: threading.Event,
    dsn: str,
    settings: Settings,
    embedders: Embedders,
    started: Callable[[Runs], None] = lambda _: None,
    make: Callable[[str, Settings, Embedders], Runs] = Pipeline,
    around: Around | None = None,
) -> None:
    """Runs pipelines, one after the other fails, until `stop` is set; and decides what domain teams hand in.

    A database that is away is waited for; what needs a person is raised.

    Raises:
        SlotMissing, ServerUnfit, NotInitialised: see there.
    """
    controller = Controller(dsn, embedders, around or Lineage(settings.openlineage), settings.sources)

    def up(pipeline: Runs) -> None:
        controller.start()
        started(pipeline)

    try:
        _run_pipelines(stop, dsn, settings, embedders, up, make)
    finally:
        controller.stop()


def _run_pipelines(
    stop: threading.Event,
    dsn: str,
    settings: Settings,
    embedders: Embedders,
    started: Callable[[Runs], None],
    make: Callable[[str, Settings, Embedders], Runs],
) -> None:
    pauses = Backoff(_RESTART_FIRST_S, _RESTART_MOST_S)
    streamed, found, starts = False, False, 0
    while not stop.is_set():
        try:
            pipeline = make(dsn, settings, embedders)
            found = True
            pipeline.start()
            started(pipeline)
            failure = None
            while failure is None and not stop.wait(0.2):
                failure = pipeline.failure()
                if pipeline.streaming:
                    streamed = True
                    pauses.reset()
            drained = pipeline.stop()
            if failure is None:
                log.info("stopped", extra={"drained": drained})
                return
            raise failure
        except (SlotMissing, ServerUnfit, NotInitialised, UsageError):
            raise
        except (TidegateError, psycopg.OperationalError) as error:
            found = found or _hung_up(error)
            starts += 1
            if not streamed and (not found or starts >= _STARTS):
                raise
            log.warning("pipeline failed, it starts again", extra={"reason": str(error), "retry_s": pauses.seconds})
            pauses.wait(stop)


def _hung_up(error: Exception) -> bool:
    """Whether a connection was lost, as opposed to one that was never had."""
    return isinstance(error, psycopg.OperationalError) and (error.sqlstate or "57P").startswith(("57P", "08"))


def complete(dsn: str) -> str:
    """The DSN with the parts that libpq would take from the environment: Debezium does not look there."""
    with connect(dsn) as connection:
        info = connection.info
        parts = {"host": info.host, "port": str(info.port), "user": info.user, "dbname": info.dbname}
        if info.password:
            parts["password"] = info.password
    given = {name: str(value) for name, value in conninfo_to_dict(dsn).items() if value is not None}
    return make_conninfo(**{**given, **parts})
