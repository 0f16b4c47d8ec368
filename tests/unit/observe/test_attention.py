"""What `status --check` complains of, and what it does not."""

from dataclasses import replace
from datetime import UTC, datetime
from typing import Any

import pytest

from tidegate.capture.connect import ConnectorState
from tidegate.observe.attention import attention
from tidegate.observe.fleet import FleetStatus, PartitionStatus, SourceStatus, WorkerStatus
from tidegate.observe.status import CaptureStatus, ProductStatus

NOON = datetime(2026, 1, 1, 12, tzinfo=UTC)
ACTIVE = CaptureStatus("tidegate_db", True, True, "0/1", 0)
NOTE = ProductStatus(
    "team.note", "1.0.0", "live", None, "local/all-minilm-l6-v2", 3, 3, 0, 9, 20.0, 30.0, 40.0, 200, 99.0, 1.0, True,
    NOON, "0/1", 3, "", 0.4,
)  # fmt: skip
CUSTOMER = replace(NOTE, product="sales.customer", source="crm")
EMBEDDED = FleetStatus([], [], [SourceStatus("", "embedded", 1, NOON, None, None)])
WORKER = WorkerStatus("one", NOON, True, 0, None, None, NOON)
GONE = replace(WORKER, worker="two", alive=False)
PARTITION = PartitionStatus("", 0, "one", 1, 1, 0, "0/1", NOON)
KAFKA = FleetStatus([WORKER, GONE], [PARTITION], [SourceStatus("", "kafka", 1, NOON, None, None)])
RUNS = ConnectorState("tidegate_db", "RUNNING", ("RUNNING",), "w", None)


def complaints(
    capture: CaptureStatus = ACTIVE,
    product: ProductStatus = NOTE,
    fleet: FleetStatus = EMBEDDED,
    connectors: Any = {},  # noqa: B006
) -> list[str]:
    return attention(capture, [product], fleet, connectors, idle_s=1.0)


@pytest.mark.parametrize(
    "given",
    [
        {},
        {"fleet": KAFKA, "connectors": {"tidegate_db": RUNS}},
        {"product": replace(NOTE, state="backfilling", within_sla=None, share_within_sla=None, as_of=None, age_s=None)},
        {"product": replace(NOTE, sla_ms=None, sla_percentile=None, within_sla=None, age_s=60.9)},
        {"product": replace(NOTE, sla_ms=5000, age_s=65.9)},
        # Nothing of the index's own database is captured.
        {"capture": CaptureStatus("tidegate_db", False, False, None, None), "product": CUSTOMER, "fleet": KAFKA},
    ],
)
def test_where_all_is_well_there_is_nothing_to_say(given: dict[str, Any]):
    assert complaints(**given) == []


@pytest.mark.parametrize(
    ("given", "said"),
    [
        (
            {"capture": replace(ACTIVE, active=False)},
            'slot tidegate_db is not active, nothing reads changes; start "ti',
        ),
        ({"capture": replace(ACTIVE, active=False), "fleet": KAFKA}, "nothing reads changes; is the connector running"),
        ({"capture": replace(ACTIVE, exists=False, active=False)}, "slot tidegate_db is not there"),
        ({"product": replace(NOTE, state="suspended", state_reason="dropped")}, "team.note is suspended: dropped"),
        (
            {"product": replace(NOTE, within_sla=False, share_within_sla=0.5)},
            "team.note misses its SLA, p99 200 ms, in the last hour (50.0% within)",
        ),
        ({"product": replace(NOTE, age_s=61.3)}, "the index of product team.note is as of 61.3 s ago"),
        ({"product": replace(NOTE, dead_letters=1)}, "team.note has 1 dead letter;"),
        ({"fleet": replace(KAFKA, workers=[GONE])}, 'no worker is running; start "tidegate worker"'),
        # Of another database, and nothing ever ran.
        ({"product": CUSTOMER, "fleet": FleetStatus([], [], [])}, 'no worker is running; start "tidegate worker"'),
        ({"fleet": replace(KAFKA, workers=[replace(WORKER, trouble="no broker")])}, "worker one: no broker"),
        ({"fleet": replace(KAFKA, partitions=[replace(PARTITION, worker="two")])}, "nobody has 1 partition: 0"),
        ({"fleet": replace(KAFKA, sources=[SourceStatus("crm", "kafka", 1, NOON, "away", NOON)])}, "source crm: away"),
        ({"connectors": {"tidegate_db": None}}, "connector tidegate_db is not there"),
        (
            {"connectors": {"tidegate_db": replace(RUNS, tasks=("FAILED",), reason="no slot")}},
            "connector tidegate_db does not run: no slot",
        ),
        ({"connectors": {"connect": "cannot be reached"}}, "connect: cannot be reached"),
    ],
)
def test_what_needs_somebody_is_named_once(given: dict[str, Any], said: str):
    (complaint,) = complaints(**given)
    assert said in complaint


def test_nothing_published_needs_no_slot():
    assert attention(CaptureStatus("tidegate_db", False, False, None, None), [], EMBEDDED, {}, idle_s=1.0) == []
