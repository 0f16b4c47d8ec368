"""How the workers and partitions are."""

from dataclasses import dataclass
from datetime import datetime

from tidegate.database import Connection
from tidegate.sql import queries


@dataclass(frozen=True, slots=True)
class WorkerStatus:
    """One worker, as it last said. `trouble`: what kept changes from it, and since when."""

    worker: str
    seen_at: datetime
    alive: bool
    bulk_waiting: int
    trouble: str | None
    trouble_since: datetime | None
    started_at: datetime


@dataclass(frozen=True, slots=True)
class PartitionStatus:
    """One partition. `lag`: events in Kafka that are not committed yet."""

    source: str
    partition: int
    worker: str
    committed_offset: int | None
    end_offset: int | None
    lag: int | None
    finished_lsn: str | None
    updated_at: datetime


@dataclass(frozen=True, slots=True)
class SourceStatus:
    """A source database; the empty name is the index's own.

    Attributes:
        as_of: everything committed there before is in the index.
        trouble: what keeps the workers from it, and since when.
    """

    source: str
    transport: str
    partitions: int
    as_of: datetime | None
    trouble: str | None
    trouble_since: datetime | None


@dataclass(frozen=True, slots=True)
class FleetStatus:
    """All of them."""

    workers: list[WorkerStatus]
    partitions: list[PartitionStatus]
    sources: list[SourceStatus]

    @property
    def alive(self) -> list[WorkerStatus]:
        return [worker for worker in self.workers if worker.alive]


def fleet_status(connection: Connection) -> FleetStatus:
    """Workers and partitions, for administrators: the connection reads the control tables."""
    static = queries("stream")
    return FleetStatus(
        [WorkerStatus(*row) for row in connection.execute(static["workers"]).fetchall()],
        [PartitionStatus(*row) for row in connection.execute(static["partitions"]).fetchall()],
        [SourceStatus(*row) for row in connection.execute(static["sources"]).fetchall()],
    )
