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
class FleetStatus:
    """All of them."""

    workers: list[WorkerStatus]
    partitions: list[PartitionStatus]

    @property
    def alive(self) -> list[WorkerStatus]:
        return [worker for worker in self.workers if worker.alive]


def fleet_status(connection: Connection) -> FleetStatus:
    """Workers and partitions, for administrators: the connection reads the control tables."""
    static = queries("stream")
    return FleetStatus(
        [WorkerStatus(*row) for row in connection.execute(static["workers"]).fetchall()],
        [PartitionStatus(*row) for row in connection.execute(static["partitions"]).fetchall()],
    )
