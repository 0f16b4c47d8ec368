"""How the products are: rows, chunks, freshness against the SLA, dead letters."""

from dataclasses import dataclass
from datetime import datetime

from tidegate.database import Connection
from tidegate.sql import queries


@dataclass(frozen=True, slots=True)
class ProductStatus:
    """One product. Times in ms; percentiles None where no change came in the last hour.

    Attributes:
        within_sla: the SLA's percentile of the last hour is within it; None where there is no SLA or no change.
        as_of: every change committed before it is in the index.
        source_rows_estimate: rows of the source table, as the planner knows them.
        source: the database that the rows come from; the empty name is the index's own.
        age_s: how long ago `as_of` is, by the server's clock.
    """

    product: str
    contract_version: str
    state: str
    state_reason: str | None
    model: str
    rows: int
    chunks: int
    dead_letters: int
    changes: int
    p50_ms: float | None
    p95_ms: float | None
    p99_ms: float | None
    sla_ms: int | None
    sla_percentile: float | None
    share_within_sla: float | None
    within_sla: bool | None
    as_of: datetime | None
    watermark: str | None
    source_rows_estimate: int | None
    source: str
    age_s: float | None


@dataclass(frozen=True, slots=True)
class CaptureStatus:
    """The replication slot. `behind_bytes`: WAL that is not confirmed yet."""

    slot: str
    exists: bool
    active: bool
    confirmed: str | None
    behind_bytes: int | None


def product_status(connection: Connection) -> list[ProductStatus]:
    """All products, for administrators: the connection reads the control tables."""
    return [ProductStatus(*row) for row in connection.execute(queries("status")["status"]).fetchall()]


def capture_status(connection: Connection, slot: str) -> CaptureStatus:
    """The stream's slot."""
    row = connection.execute(queries("status")["slot"], {"slot": slot}).fetchone()
    if row is None:
        return CaptureStatus(slot, False, False, None, None)
    return CaptureStatus(slot, True, row[0], row[1], row[2])
