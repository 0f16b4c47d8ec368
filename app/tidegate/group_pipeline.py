"""A worker of a consumer group: what `tidegate worker` runs."""

import logging
import os
import socket
import uuid
from collections.abc import Mapping

from tidegate.capture.connect import Connect
from tidegate.capture.connector_watch import ConnectorWatch
from tidegate.capture.consumer import GroupConsumer
from tidegate.capture.partitions import PartitionAcknowledgements
from tidegate.capture.record import Records
from tidegate.capture.source import Source, group, sources
from tidegate.capture.stream import HOME
from tidegate.database import Connection, connect
from tidegate.errors import TidegateError, UsageError
from tidegate.govern.control_schema import check_server, require_current
from tidegate.index.embedding.registry import Embedders
from tidegate.index.fleet import Fleet, PartitionReport, WorkerReport
from tidegate.index.worker import Worker
from tidegate.observe.backfill_lineage import BackfillLineage
from tidegate.observe.lineage import Lineage
from tidegate.pipeline import DRAIN_S, complete
from tidegate.settings import Settings
from tidegate.sql import queries

log = logging.getLogger(__name__)


class GroupPipeline:
    """One consumer and one worker. Not to be started twice."""

    def __init__(self, dsn: str, settings: Settings, embedders: Embedders):
        self._dsn = complete(dsn)
        records = Records.of(settings)
        with connect(self._dsn) as connection:
            check_server(connection)
            require_current(connection)
            found = sources(settings, self._dsn, connection.info.dbname)
            _require_sources(connection, found)
        self.name = f"{socket.gethostname()}:{os.getpid()}:{uuid.uuid4().hex[:6]}"
        acknowledgements = PartitionAcknowledgements()
        fleet = Fleet(self.name, found, self._report)
        self._lineage = BackfillLineage(Lineage(settings.openlineage))
        self._worker = Worker(self._dsn, settings, embedders, acknowledgements, self._lineage, fleet)
        self._consumer = GroupConsumer(
            settings,
            group(settings, found[HOME]),
            self.name,
            found,
            self._worker,
            acknowledgements,
            self._read_again,
            records,
        )
        self._watch: ConnectorWatch | None = None
        if settings.connect.url is not None:
            names = [source.prefix for source in found.values()]
            self._watch = ConnectorWatch(Connect(settings.connect.url), names, lambda: fleet.leads)

    def start(self) -> None:
        """Starts the worker, then joins the group."""
        self._worker.start()
        self._consumer.start()
        if self._watch is not None:
            self._watch.start()

    @property
    def streaming(self) -> bool:
        """Whether the first events have come."""
        return self._worker.streaming

    def failure(self) -> TidegateError | None:
        """Why the consumer stopped by itself, if it did."""
        return self._consumer.failure()

    def stop(self) -> bool:
        """Writes what was taken, commits it, leaves the group. False: not everything could be written in time;
        whoever has its partitions next reads it again."""
        if self._watch is not None:
            self._watch.stop()
        self._consumer.drain()
        drained = self._worker.drain(DRAIN_S)
        self._consumer.stop()
        self._worker.stop()
        self._lineage.close()
        return drained

    def _report(self) -> WorkerReport:
        trouble = (self._watch and self._watch.trouble) or self._consumer.trouble
        partitions = [
            PartitionReport(held.stream, held.committed, end, held.finished) for held, end in self._consumer.held()
        ]
        if trouble is None:
            return WorkerReport(partitions, self._consumer.counts)
        return WorkerReport(partitions, self._consumer.counts, *trouble)

    def _read_again(self, source: str) -> None:
        """Kafka has not kept all changes of the source: its tables are read again, which also finds deleted rows."""
        with connect(self._dsn, role="tidegate_worker") as connection:
            parameters = {"source": source, "states": ["live", "backfilling"]}
            connection.execute(queries("stream")["backfills_again"], parameters)


def _require_sources(connection: Connection, found: Mapping[str, Source]) -> None:
    """Raises UsageError where a product's rows come from a source whose topic this worker would not read."""
    for product, source in connection.execute(queries("stream")["origins"]):
        if source not in found:
            raise UsageError(
                f'the rows of {product} come from "{source}", which TIDEGATE_SOURCES does not name; '
                "every worker needs it"
            )
